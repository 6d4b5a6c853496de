"""Checkpoints by orbax: the whole training state (head, optimizer, step, key), and a record by
which damage is found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import hashlib
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from glot_jax.config.json import differences
from glot_jax.errors import UsageError
from glot_jax.training.plain_path import plain_path
from glot_jax.training.readback import Readback

_METADATA = "_CHECKPOINT_METADATA"  # orbax's own file; `custom_metadata` in it is ours
_UNFINISHED, _REMOVED = ".orbax-checkpoint-tmp", ".removed-"

# Orbax reports every phase of every save at INFO.
logging.getLogger("absl").setLevel(logging.ERROR)


class DamagedCheckpoint(UsageError):
    """A checkpoint that does not hold what was saved."""


class Checkpoints:
    """The checkpoints of one run, `RUN/checkpoints/<step>/`: the last two and the best. `writing`
    for the run itself.

    A checkpoint is whole or absent: orbax writes under a temporary name and renames. Each holds, in
        orbax's custom
    metadata, a record {arrays: {path: [dtype, shape, sha256]}, selection, notes} and the record's
    own sha256. Those of earlier versions have none, and are read without the check.

    Which are kept is decided here and not by orbax's policies: orbax deletes file by file, and a
    kill in between would leave half a checkpoint under its final name.

    The first one that is saved is read back and compared on a thread, once it is on disk: see
    `check`.
    """

    def __init__(self, run: Path, *, writing: bool = False):
        self.run, self.writing = run, writing
        self.folder = (run / "checkpoints").absolute()
        self._records: dict[int, dict[str, Any]] = {}
        self._pending: _Pending | None = None
        self._readback: Readback | None = None
        # Only who writes may clear away what a kill left: a reader would take a save in flight for
        # it.
        if writing:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if _UNFINISHED in path.name or path.name.startswith(_REMOVED):
                    shutil.rmtree(path)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, ascending."""
        return (
            sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())
            if self.folder.is_dir()
            else []
        )

    @property
    def latest_step(self) -> int | None:
        return max(self.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the highest selection; of equal ones the earliest. Those saved within an
        epoch have no selection.

        The one that is being written counts: a run keeps what it predicted at its best epoch, and
            asks right after the save.

        Raises:
            DamagedCheckpoint: one whose selection cannot be read, which might be the best.
        """
        pending = [] if self._pending is None else [self._pending.step]
        selections = {step: self._record(step)["selection"] for step in {*self.steps, *pending}}
        ranked = [
            (selection, -step) for step, selection in selections.items() if selection is not None
        ]
        return -max(ranked)[1] if ranked else None

    def notes(self, step: int) -> dict[str, Any]:
        """What was saved beside the state."""
        return self._record(step)["notes"]

    def save(
        self,
        state: dict[str, Any],
        selection: float | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the state. The write goes on in the background, from a copy; the checkpoint before
        it is on disk by then.

        Args:
            state: a tree of arrays; `state["step"]` names the checkpoint.
            selection: the number that the best one is chosen by; None at a step that takes no part
                in it.
            notes: JSON values saved beside the state; floats come back exactly.

        Raises:
            OSError: the save before this one failed.
        """
        self.wait()
        step = int(state["step"])
        hashes = _hashes(state)
        record = {
            "arrays": {name: [*kind, hashes[name]] for name, kind in _kinds(state).items()},
            "selection": None if selection is None else float(selection),
            "notes": notes or {},
        }
        record = json.loads(
            json.dumps(record, allow_nan=False)
        )  # a copy: the caller's lists grow on while this one is written
        metadata = {"record": record, "sha256": _digest(record)}
        self._records[step] = record
        with contextlib.ExitStack() as link:
            folder = link.enter_context(plain_path(self.folder))
            response = ocp.save_checkpointables_async(
                str(folder / str(step)), {"state": state}, custom_metadata=metadata
            )
            self._pending = _Pending(step, response, folder, link.pop_all())
        if self._readback is None:
            # Shapes are taken now: the arrays are given to the next step, which overwrites them.
            target = _on_the_host(state)
            self._readback = Readback(
                lambda: self._read_back(step, response, target, record["arrays"])
            )

    def _read_back(
        self, step: int, response: Any, target: dict[str, Any], arrays: Mapping[str, Any]
    ) -> None:
        try:
            response.result()
        except Exception:  # what could not be written is `wait`'s to say
            return
        state, reason = _read(self.folder, step, target)
        reason = reason or _difference(state, arrays)
        if reason is not None:
            raise UsageError(
                "the first checkpoint of a run can be read back",
                f"{self.folder / str(step)}: {reason}",
                "The run has stopped: no later one could be read either. Choose another --out, on"
                " another disk perhaps.",
            )

    def check(self) -> None:
        """What reading the first checkpoint back has found so far; does not wait.

        Raises:
            UsageError: it cannot be read, or is not what was saved.
        """
        if self._readback is not None:
            self._readback.check()

    def wait(self) -> None:
        """Until the last save is on disk, and the first one read back; then those that are neither
        among the last two nor the best are removed.

        Raises:
            OSError: it could not be written.
            UsageError: the first one cannot be read.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        try:
            pending.response.result()
        except (OSError, ValueError) as error:  # tensorstore says ValueError when the disk is full
            del self._records[pending.step]
            reason = _reason(_causes(error)[-1]).replace(str(pending.folder), str(self.folder))
            raise OSError(f"checkpoint {pending.step}: {reason}") from error
        finally:
            pending.link.close()
        if self._readback is not None:
            self._readback.wait()
        kept = {*self.steps[-2:], self.best_step}
        for step in set(self.steps) - kept:
            # Renamed first: what a kill leaves is not taken for a checkpoint.
            removed = self.folder / f"{_REMOVED}{step}"
            (self.folder / str(step)).rename(removed)
            shutil.rmtree(removed)

    def load(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The state of `step`, in the structure, shapes and placement of `like`, compared with what
        was saved.

        Raises:
            UsageError: the arrays that were saved have other names or shapes.
            DamagedCheckpoint: they are not what was saved, or cannot be read.
        """
        arrays = self._record(step)["arrays"]
        if arrays is not None:
            changed = differences({name: entry[:2] for name, entry in arrays.items()}, _kinds(like))
            if changed:
                raise self._unfit(
                    step, "; ".join([*changed[:3], *(["..."] if len(changed) > 3 else [])])
                )
        state, error = _read(self.folder, step, _on_the_device(like))
        if error is not None and arrays is None and error.startswith("ValueError"):
            raise self._unfit(step, error)
        if error is not None:
            raise self._damaged(step, error)
        difference = None if arrays is None else _difference(state, arrays)
        if difference is not None:
            raise self._damaged(step, difference)
        return state

    def restore(self, like: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
        """The state of the latest whole checkpoint; None where there is none.

        Every checkpoint is read and compared. The damaged ones are moved to
        `RUN/damaged-checkpoints/`, a line each.

        Raises:
            UsageError: a checkpoint does not fit `like`, or may not be read.
        """
        state, steps = None, self.steps
        for step in reversed(steps):
            try:
                loaded = self.load(step, like)
            except DamagedCheckpoint as error:
                say(f"damaged checkpoint: {error.got}; moved to {self._set_aside(step)}")
                continue
            state = loaded if state is None else state
        if steps and state is None:
            say("no whole checkpoint is left: training starts again from step 0")
        return state

    def _set_aside(self, step: int) -> Path:
        aside = self.run / "damaged-checkpoints"
        aside.mkdir(exist_ok=True)
        names = [
            str(step),
            *(f"{step}-{again}" for again in range(2, 2 + len(list(aside.iterdir())))),
        ]
        target = next(aside / name for name in names if not (aside / name).exists())
        (self.folder / str(step)).rename(target)
        self._records.pop(step, None)
        return target

    def _record(self, step: int) -> dict[str, Any]:
        if step not in self._records:
            self._records[step] = self._read_record(step)
        return self._records[step]

    def _read_record(self, step: int) -> dict[str, Any]:
        """Read by hand: where its file is broken, orbax loads the arrays all the same and loses the
        record.
        """
        path = self.folder / str(step)
        try:
            custom = json.loads((path / _METADATA).read_bytes())["custom_metadata"]
            if (
                custom == {}
            ):  # saved by an earlier version; no single broken byte makes this of a record
                return {
                    "arrays": None,
                    "selection": json.loads((path / "metrics" / "metrics").read_bytes())[
                        "selection"
                    ],
                    "notes": {},
                }
            if custom["sha256"] == _digest(custom["record"]):
                return custom["record"]
        except OSError as error:
            if not _is_damage(error):
                raise UsageError(
                    "a checkpoint can be read", f"{path}: {error}", "Grant access."
                ) from error
            raise self._damaged(
                step, f"{Path(error.filename or path).name} cannot be read, {error.strerror}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(step, f"{_METADATA} or metrics is not what was saved") from error
        raise self._damaged(step, f"{_METADATA} is not what was saved")

    def _damaged(self, step: int, reason: str) -> DamagedCheckpoint:
        fix = f"Repair the run with train.py --resume {self.run}"
        if step != self.latest_step:
            fix += ", or read the latest with --checkpoint last"
        return DamagedCheckpoint(
            "a checkpoint holds what was saved", f"{self.folder / str(step)}: {reason}", f"{fix}."
        )

    @staticmethod
    def _unfit(step: int, difference: str) -> UsageError:
        return UsageError(
            "a checkpoint fits the model of its config.json",
            f"step {step}: {difference}",
            "Was config.json edited?",
        )


@dataclasses.dataclass(frozen=True)
class _Pending:
    """A save that is not known to be on disk."""

    step: int
    response: Any
    folder: Path
    """Where it is written to: `Checkpoints.folder`, or that folder's other name."""
    link: contextlib.ExitStack
    """Removes the other name."""


def _on_the_device(like: dict[str, Any]) -> dict[str, Any]:
    """What orbax is asked for: the arrays where those of `like` are."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )


def _on_the_host(like: dict[str, Any]) -> dict[str, Any]:
    """The same in the host's memory, all but keys, which exist on a device only: a device has no
    room for two states perhaps.
    """

    def target(leaf: Any) -> Any:
        if _is_key(leaf):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        # Orbax wants an array of NumPy's, of which it reads shape and dtype: one that takes no
        # memory.
        return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)

    return jax.tree.map(target, like)


def _read(folder: Path, step: int, target: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """(state, None), or ({}, why it cannot be read)."""
    with plain_path(folder) as plain, _quiet_failures():
        try:
            return (
                ocp.load_checkpointables(str(plain / str(step)), {"state": target})["state"],
                None,
            )
        except Exception as error:  # orbax documents no list of what a broken file makes it raise
            causes = _causes(error)
            reason = _reason(causes[-1]).replace(str(plain), str(folder))
            if not all(map(_is_damage, causes)):
                raise UsageError(
                    "a checkpoint can be read",
                    f"{folder / str(step)}: {reason}",
                    "Free memory or grant access.",
                ) from error
        gc.collect()  # what failed is logged when it is collected
        return {}, reason


@contextlib.contextmanager
def _quiet_failures() -> Iterator[None]:
    """Orbax reads many arrays at once and looks at the first failure; the others would be reported
    too, a page each.
    """
    log, hook = logging.getLogger("asyncio"), sys.unraisablehook
    level = log.level
    log.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda args: (
        None if "Event loop is closed" in str(args.exc_value) else hook(args)
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, what caused that."""
    cause = error.__cause__ or error.__context__
    return [error] if cause is None else [error, *_causes(cause)]


def _is_damage(error: BaseException) -> bool:
    """Whether the file is to blame: not the memory that ran out, nor the right to read it."""
    if isinstance(error, OSError):
        return (
            isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
            or error.errno == errno.EIO
        )
    return not isinstance(error, MemoryError) and not any(
        word in str(error) for word in ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED")
    )


def _reason(error: BaseException) -> str:
    """In one line; tensorstore adds a page of its settings."""
    text = str(error).split(" [tensorstore_spec")[0].strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"


def _named(state: Any) -> dict[str, Any]:
    """path -> leaf.

    The names of keys only: an index in a list and in a named tuple's field are spelled as jax
    spells them.
    """

    def name(key: Any) -> str:
        return str(next(getattr(key, of) for of in ("key", "name", "idx") if hasattr(key, of)))

    return {"/".join(map(name, path)): leaf for path, leaf in jax.tree.leaves_with_path(state)}


def _kinds(state: Any) -> dict[str, list[Any]]:
    return {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in _named(state).items()}


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _difference(state: Any, arrays: Mapping[str, Any]) -> str | None:
    """How a state that was read differs from its record; None if it does not."""
    broken = [name for name, found in _hashes(state).items() if found != arrays[name][2]]
    return (
        f"{len(broken)} of {len(arrays)} arrays are not what was saved, the first {broken[0]}"
        if broken
        else None
    )


def _hashes(state: Any) -> dict[str, str]:
    """sha256 of each array's bytes, as they lie on the host; of a PRNG key, of its data."""
    plain = {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in _named(state).items()
    }
    return {
        name: hashlib.sha256(np.asarray(array).tobytes()).hexdigest()
        for name, array in jax.device_get(plain).items()
    }


def _digest(record: Any) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

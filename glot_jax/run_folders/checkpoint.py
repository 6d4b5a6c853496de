"""Checkpoints of a run.

Each holds the model, the state of its training, and a record by which damage is found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from glot_jax.config.json import differences
from glot_jax.errors import UsageError
from glot_jax.mesh.processes import ALONE, Processes
from glot_jax.run_folders import orbax_files
from glot_jax.run_folders.checkpoint_record import (
    Record,
    array_kinds,
    describe_arrays,
    digest,
    first_difference,
)
from glot_jax.run_folders.orbax_files import Damaged, Parts, Response
from glot_jax.run_folders.plain_path import plain_path
from glot_jax.run_folders.readback import LateReadback, Readback
from glot_jax.run_folders.shared_writing import (
    agreed_reason,
    agreed_record,
    readback_of,
    require_plain,
    wait_a_while,
)

FOLDER = "checkpoints"
ASIDE = "damaged-checkpoints"

MODEL = ("params", "stats")
"""What makes a model, of a training state; the rest is needed to go on training only."""

_REMOVED = ".removed-"

State = dict[str, Any]
"""A training state (`steps.TrainState`), or the MODEL part of one."""


class DamagedCheckpoint(UsageError):
    """A checkpoint that does not hold what was saved."""


class Checkpoints:
    """The checkpoints of one run, `RUN/checkpoints/<step>/`: the last two and the best.

    A checkpoint is whole or absent. Its two parts lie in folders of their own: `model` (MODEL) and
    `training` (optimizer, step, key), so that a model is read without building an optimizer. Older
    versions wrote one part, `state`, which is read as well. Orbax's custom metadata holds the
    `Record` and its sha256.

    Which are kept is decided here and not by orbax's policies: orbax deletes file by file, and a
    kill in between would leave half a checkpoint under its final name.

    The first one that is saved is read back and compared on a thread, once it is on disk: see
    `check`.

    Of several processes all call every method, in their main threads; the first one alone moves and
    deletes. Which checkpoints there are is then looked up once and counted from there on, because
    folders of a network are seen late.

    Args:
        run: run folder.
        writing: for the run itself. Only who writes may clear away what a kill left: a reader would
            take a save that is under way for it.
        processes: that save and load together.
    """

    def __init__(self, run: Path, *, writing: bool = False, processes: Processes = ALONE):
        self.run = run
        self._processes = processes
        self.folder = (run / FOLDER).absolute()
        self._records: dict[int, Record] = {}
        self._pending: _Pending | None = None
        self._readback: Readback | LateReadback | None = None
        with processes.agree():
            if processes.several:
                require_plain(self.folder.parent)
            if writing and processes.first:
                self._clear_away()
        self._known: set[int] | None = None
        if processes.several:
            self._known = set(processes.from_first(self.steps))

    def _clear_away(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if orbax_files.UNFINISHED in path.name or path.name.startswith(_REMOVED):
                shutil.rmtree(path)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not self._processes.several:
            self.wait()
        elif self._pending is not None:
            wait_a_while(self._pending.response)

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, ascending."""
        if self._known is not None:
            return sorted(self._known)
        if not self.folder.is_dir():
            return []
        steps = []
        for path in self.folder.iterdir():
            # Saves in the making and removed ones lie here too, under names that are no numbers.
            if path.name.isdecimal():
                steps.append(int(path.name))
        return sorted(steps)

    @property
    def latest_step(self) -> int | None:
        """The last of `steps`."""
        return max(self.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the highest selection; of equal ones the earliest.

        Checkpoints that were saved within an epoch have no selection.

        Raises:
            DamagedCheckpoint: one whose selection cannot be read, which might be the best.
        """
        steps = set(self.steps)
        if self._pending is not None:
            # The one that is being written counts: a run keeps what it predicted at its best epoch,
            # and asks right after the save.
            steps.add(self._pending.step)
        ranked = []
        for step in steps:
            selection = self._record(step).selection
            if selection is not None:
                # Negated, so that the greatest pair is the earliest of equal scores.
                ranked.append((selection, -step))
        if not ranked:
            return None
        _, negated = max(ranked)
        return -negated

    def is_better(self, selection: float) -> bool:
        """Whether a score is above that of `best_step`; True where there is none."""
        best = self.best_step
        highest = None if best is None else self._record(best).selection
        return highest is None or selection > highest

    def notes(self, step: int) -> Mapping[str, Any]:
        """What was saved beside the state."""
        return self._record(step).notes

    # ------------------------------------------------------------------------------------- Writing

    def save(
        self,
        state: State,
        selection: float | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the state.

        The write goes on in the background, from a copy; the checkpoint before it is on disk by
        then.

        Args:
            state: a tree of arrays; `state["step"]` names the checkpoint.
            selection: the number that the best one is chosen by; None at a step that takes no part
                in it.
            notes: JSON values saved beside the state; floats come back exactly.

        Raises:
            OSError: the save before this one failed.
        """
        step = int(state["step"])
        self._save(step, state, selection, notes or {})

    def save_model(self, params: State, stats: State) -> None:
        """Save a model that was trained elsewhere, at step 0. No training can go on from it."""
        # Nothing was selected: the number only lets the one checkpoint there is be the best one
        # too.
        state = {"params": params, "stats": stats}
        self._save(0, state, selection=0.0, notes={})

    def _save(
        self,
        step: int,
        state: State,
        selection: float | None,
        notes: Mapping[str, Any],
    ) -> None:
        # One at a time: what is removed afterwards depends on which ones are on disk.
        self.wait()
        values = {
            "arrays": describe_arrays(state),
            "selection": None if selection is None else float(selection),
            "notes": notes,
        }
        # A copy: the caller's lists grow on while this one is written.
        values = json.loads(json.dumps(values, allow_nan=False))
        values = agreed_record(self._processes, step, values)
        record = Record(**values)
        metadata = {"record": values, "sha256": digest(values)}
        self._records[step] = record
        parts = _parts(state)
        with contextlib.ExitStack() as link:
            folder = link.enter_context(plain_path(self.folder))
            response = orbax_files.start_saving(folder / str(step), parts, metadata)
            # The other name is needed until the save is done: `wait` gives it up, not this block.
            self._pending = _Pending(step, response, folder, link.pop_all())
        if self._readback is None:
            # Shapes are taken now: the arrays are given to the next step, which overwrites them.
            if self._processes.several:
                target = orbax_files.on_the_device(state)
            else:
                target = orbax_files.on_the_host(state)
            read = functools.partial(self._read_back, step, response, target, record)
            self._readback = readback_of(self._processes, read)

    def _read_back(
        self,
        step: int,
        response: Response,
        target: State,
        record: Record,
    ) -> None:
        try:
            response.result()
        except Exception:  # what could not be written is `wait`'s to say
            return
        try:
            reason = first_difference(self._read(step, target), record)
        except Damaged as error:
            reason = str(error)
        reason = agreed_reason(self._processes, reason)
        if reason is not None:
            raise UsageError(
                rule="the first checkpoint of a run must be readable",
                got=f"{self.folder / str(step)}: {reason}",
                fix=(
                    "The run has stopped: no later one could be read either. Choose another --out,"
                    " on another disk perhaps."
                ),
            )

    def check(self) -> None:
        """Raise what reading the first checkpoint back has shown so far; does not wait.

        Raises:
            UsageError: it cannot be read, or is not what was saved.
        """
        if self._readback is not None:
            self._readback.check()

    def wait(self) -> None:
        """Wait until the last save is on disk, and the first one read back.

        Then those that are neither among the last two nor the best are removed.

        Raises:
            OSError: it could not be written.
            UsageError: the first one cannot be read.
        """
        if self._pending is None:
            return
        pending = self._pending
        self._pending = None
        try:
            pending.response.result()
        except (OSError, ValueError) as error:  # tensorstore says ValueError when the disk is full
            del self._records[pending.step]
            # The deepest cause is what the system said.
            cause = orbax_files.all_causes(error)[-1]
            reason = orbax_files.one_line(cause)
            # People know the folder by its own name, not by that of a link which is gone by then.
            reason = reason.replace(str(pending.folder), str(self.folder))
            raise OSError(f"checkpoint {pending.step}: {reason}") from error
        finally:
            pending.link.close()
        if self._known is not None:
            self._known.add(pending.step)
        # What it raises ends the run before any older checkpoint is removed.
        if self._readback is not None:
            self._readback.wait()
        steps = self.steps
        kept = {*steps[-2:], self.best_step}
        for step in set(steps) - kept:
            if self._known is not None:
                self._known.discard(step)
            if not self._processes.first:
                continue
            # Renamed first: what a kill leaves is not taken for a checkpoint.
            removed = self.folder / f"{_REMOVED}{step}"
            (self.folder / str(step)).rename(removed)
            shutil.rmtree(removed)

    # ------------------------------------------------------------------------------------- Reading

    def load(self, step: int, like: State) -> State:
        """The training state of `step`, compared with what was saved.

        Args:
            step: one of `steps`.
            like: a state of the same structure, shapes and placement.

        Raises:
            UsageError: the arrays that were saved have other names or shapes.
            DamagedCheckpoint: they are not what was saved, or cannot be read.
        """
        return self._load(step, like, self._record(step))

    def load_model(self, step: int, like: State) -> State:
        """The MODEL part of `step` alone; arguments and errors are those of `load`."""
        record = self._record(step)
        if record.arrays is not None:
            arrays = {}
            for path, entry in record.arrays.items():
                top, _, _ = path.partition("/")
                if top in MODEL:
                    arrays[path] = entry
            record = dataclasses.replace(record, arrays=arrays)
        model = {name: like[name] for name in MODEL}
        return self._load(step, model, record)

    def _load(self, step: int, like: State, record: Record) -> State:
        # Names and shapes come first: their difference says more than orbax would, and its cause is
        # an edited config.json rather than the disk.
        if record.arrays is not None:
            saved = {path: entry[:2] for path, entry in record.arrays.items()}
            changed = differences(saved, array_kinds(like))
            shown = changed[:3]
            if len(changed) > len(shown):
                shown.append("...")
            if changed:
                raise self._unfit(step, "; ".join(shown))
        try:
            state = self._read(step, orbax_files.on_the_device(like))
        except Damaged as error:
            # Without a record nothing else tells arrays of other shapes from damage.
            if record.arrays is None and str(error).startswith("ValueError"):
                raise self._unfit(step, str(error)) from error
            raise self._damaged(step, str(error)) from error
        difference = first_difference(state, record)
        if difference is not None:
            raise self._damaged(step, difference)
        return state

    def _read(self, step: int, target: State) -> State:
        """The arrays that `target` names, whichever version wrote them."""
        if (self.folder / str(step) / "state").is_dir():
            # Its one part also holds the state of the optimizer, which a model alone does not name.
            partly = not set(target) - set(MODEL)
            targets = {"state": target}
            parts = orbax_files.read_parts(self.folder, step, targets, partly=partly)
            return parts["state"]
        parts = orbax_files.read_parts(self.folder, step, _parts(target))
        training = parts.get("training", {})
        return {**parts["model"], **training}

    def restore(self, like: State, say: Callable[[str], None]) -> State | None:
        """The state of the latest whole checkpoint; None if there is none.

        Every checkpoint is read and compared. The damaged ones are moved to
        `RUN/damaged-checkpoints/`, a line each.

        Args:
            like: as in `load`.
            say: takes the lines.

        Raises:
            UsageError: a checkpoint does not fit `like`, or may not be read.
        """
        state = None
        steps = self.steps
        # All of them, not only until one is whole: the best is chosen among the older ones, too.
        for step in reversed(steps):
            try:
                with self._processes.agree(DamagedCheckpoint):
                    loaded = self.load(step, like)
            except DamagedCheckpoint as error:
                say(f"damaged checkpoint: {error.got}; moved to {self._set_aside(step)}")
                continue
            if state is None:
                state = loaded
        if steps and state is None:
            say("no whole checkpoint is left: training starts again from step 0")
        return state

    def _set_aside(self, step: int) -> Path:
        """Move a checkpoint where it is in nobody's way, under a name that is free."""
        self._records.pop(step, None)
        if self._known is not None:
            self._known.discard(step)
        if not self._processes.first:
            return self.folder / str(step)
        aside = self.run / ASIDE
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        number = 1
        while target.exists():
            number += 1
            target = aside / f"{step}-{number}"
        (self.folder / str(step)).rename(target)
        return target

    def _record(self, step: int) -> Record:
        if step not in self._records:
            self._records[step] = self._read_record(step)
        return self._records[step]

    def _read_record(self, step: int) -> Record:
        # Read by hand: where its file is broken, orbax loads the arrays all the same and loses the
        # record.
        path = self.folder / str(step)
        file = orbax_files.METADATA
        try:
            custom = json.loads((path / file).read_bytes())["custom_metadata"]
            # Version 0.1 saved no record; no single broken byte makes {} of one.
            if custom == {}:
                metrics = json.loads((path / "metrics" / "metrics").read_bytes())
                return Record(arrays=None, selection=metrics["selection"], notes={})
            record = custom["record"]
            if custom["sha256"] == digest(record):
                return Record(**record)
        except OSError as error:
            if not orbax_files.is_damage(error):
                raise UsageError(
                    rule="a checkpoint must be readable",
                    got=f"{path}: {error}",
                    fix="Grant access.",
                ) from error
            name = Path(error.filename or path).name
            raise self._damaged(step, f"{name} cannot be read, {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(step, f"{file} or metrics is not what was saved") from error
        raise self._damaged(step, f"{file} is not what was saved")

    def _damaged(self, step: int, reason: str) -> DamagedCheckpoint:
        fix = f"Repair the run with train.py --resume {self.run}"
        if step != self.latest_step:
            fix += ", or read the latest with --checkpoint last"
        return DamagedCheckpoint(
            rule="a checkpoint must hold what was saved",
            got=f"{self.folder / str(step)}: {reason}",
            fix=f"{fix}.",
        )

    @staticmethod
    def _unfit(step: int, difference: str) -> UsageError:
        return UsageError(
            rule="a checkpoint must fit the model of its config.json",
            got=f"step {step}: {difference}",
            fix="Was config.json edited?",
        )


@dataclasses.dataclass(frozen=True)
class _Pending:
    """A save that is not known to be on disk."""

    step: int
    response: Response
    folder: Path
    """Where it is written to: `Checkpoints.folder`, or that folder's other name."""
    link: contextlib.ExitStack
    """Removes the other name."""


def _parts(state: State) -> Parts:
    """The state as it is laid out on disk."""
    model = {}
    training = {}
    for name, value in state.items():
        part = model if name in MODEL else training
        part[name] = value
    parts = {"model": model}
    if training:  # orbax cannot save an empty part
        parts["training"] = training
    return parts

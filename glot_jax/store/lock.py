"""One writer at a time: `OUT.lock/` beside a store in the making holds its recipe and who is writing it."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from glot_jax.config import UsageError, require
from glot_jax.config_json import read_json
from glot_jax.store.files import TEMPORARY, make_folders, write_atomically
from glot_jax.store.manifest import lock_folder

RECIPE, PLAN = "recipe.json", "plan.json"
_held: set[Path] = set()
"""Lock files of this process. A file with this process's id that is not among them was left by an earlier process."""


class StoreLock:
    """Hold the right to write a store, or a worker's share of its shards, for the length of a `with` block.

    Raises UsageError naming host and process if another live process holds it: any other writer of the store, except
    workers of the same number beside a worker. The lock of a process of this host that no longer runs is taken over
    with a `notice`. On leaving, the lock goes; the recipe stays for the next run to continue with, unless `finished` was
    called or nothing of the store was written.

    Args:
        store: folder of the store.
        notice: called with a line for the user.
        share: (number, workers) of a worker; None for the only writer.
    """

    def __init__(self, store: Path, notice: Callable[[str], None] = lambda text: None, *, share: tuple[int, int] | None = None):
        self._store, self._notice, self._share = Path(store), notice, share
        self._folder = lock_folder(store)
        self._file = self._folder / ("lock" if share is None else f"worker-{share[0]}-of-{share[1]}")
        self._finished = False

    def __enter__(self) -> StoreLock:
        try:
            make_folders(self._folder)
            # The second attempt follows the removal of a stale lock; losing that race to another process is its refusal.
            if not self._create():
                self._remove_stale(self._file)
                if not self._create():
                    self._refuse(self._file, *_holder(self._file))
        except OSError as error:
            raise UsageError("--out lies in a folder that can be written", f"{self._store} ({error})", "Choose another --out.") from error
        _held.add(self._file)
        try:
            # Created first, looked around second: of two writers that start together at least one sees the other.
            for other in self._rivals():
                self._remove_stale(other)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()
        written = self._store.is_dir() and any(self._store.iterdir())
        if self._finished or not (written or any(self._folder.glob("worker-*"))):
            for path in (self._folder / RECIPE, self._folder / PLAN, *self._folder.glob(f"{TEMPORARY}*")):
                path.unlink(missing_ok=True)
            if not any(self._folder.iterdir()):
                self._folder.rmdir()

    def finished(self) -> None:
        """The store is complete: leave nothing beside it."""
        self._finished = True

    def recipe(self) -> dict[str, Any] | None:
        """The recipe that the unfinished store beside this lock was begun with, if any."""
        return read_recipe(self._store)

    def begin(self, recipe: Mapping[str, Any]) -> None:
        """Keep the recipe for runs that continue this store; called before its first file is written."""
        write_atomically(self._folder / RECIPE, json.dumps(recipe, indent=1).encode())

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Keep what a store that workers write will consist of, for `finish`."""
        write_atomically(self._folder / PLAN, json.dumps(plan, indent=1).encode())

    def _create(self) -> bool:
        # Linked under its name when it is whole: nobody sees a lock that does not say yet whose it is.
        temporary = self._folder / f"{TEMPORARY}{secrets.token_hex(4)}-lock"
        temporary.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        try:
            os.link(temporary, self._file)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _release(self) -> None:
        _held.discard(self._file)
        self._file.unlink(missing_ok=True)

    def _rivals(self) -> list[Path]:
        """Locks that may not be held beside this one."""
        others = [path for path in (self._folder / "lock", *sorted(self._folder.glob("worker-*"))) if path != self._file and path.exists()]
        if self._share is None:
            return others
        return [path for path in others if not path.name.endswith(f"-of-{self._share[1]}")]

    def _remove_stale(self, file: Path) -> None:
        host, pid = _holder(file)
        here = host in ("", socket.gethostname())
        mine = pid == os.getpid() and file not in _held
        if not here or (pid and not mine and _runs(pid)):
            self._refuse(file, host, pid)
        # Renamed before it is removed: of two processes that saw the same stale lock only one gets it.
        stale = self._folder / f"stale-{os.getpid()}"
        try:
            os.rename(file, stale)
        except FileNotFoundError:
            return
        stale.unlink()
        self._notice(f"Taking over {self._store}: process {pid}, which was writing it, no longer runs.")

    def _refuse(self, file: Path, host: str, pid: int) -> None:
        raise UsageError(
            "one process at a time writes a store, or workers of one number", f"{self._store}, which process {pid} on host {host} is writing",
            f"Wait for it, or choose another --out; if that process is gone, delete {file}.",
        )


def _holder(file: Path) -> tuple[str, int]:
    """Host and process id in a lock file; ("", 0) for one that a power cut emptied."""
    try:
        values = read_json(file)
        return str(values["host"]), int(values["pid"])
    except (UsageError, KeyError, TypeError, ValueError):
        return "", 0


def read_plan(store: Path) -> dict[str, Any] | None:
    """What worker 0 of an unfinished store left: {workers, task, splits}; None if it has not come to its end."""
    path = lock_folder(store) / PLAN
    return read_json(path) if path.is_file() else None


def read_recipe(store: Path) -> dict[str, Any] | None:
    """The recipe of an unfinished store, or None. UsageError if its file is damaged."""
    path = lock_folder(store) / RECIPE
    if not path.is_file():
        return None
    recipe = read_json(path)
    require(isinstance(recipe, dict), "the recipe of an unfinished store is a JSON object", path, f"Delete {store} and {path.parent}, and start again.")
    return recipe


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

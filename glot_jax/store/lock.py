"""One writer at a time: `OUT.lock/` beside a store in the making holds its recipe and who is writing it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from glot_jax.config import UsageError, require
from glot_jax.config_json import read_json
from glot_jax.store.files import write_atomically
from glot_jax.store.manifest import lock_folder

_held: set[Path] = set()
"""Lock files of this process. A file with this process's id that is not among them was left by an earlier process."""


class StoreLock:
    """Hold the right to write a store for the length of a `with` block.

    Raises UsageError naming host and process if another live process holds it. The lock of a process of this host that
    no longer runs is taken over with a `notice`. On leaving, the lock goes; the recipe stays for the next run to
    continue with, unless `finished` was called or nothing of the store was written.
    """

    def __init__(self, store: Path, notice: Callable[[str], None] = lambda text: None):
        self._store, self._notice = Path(store), notice
        self._folder = lock_folder(store)
        self._file, self._recipe = self._folder / "lock", self._folder / "recipe.json"
        self._finished = False

    def __enter__(self) -> StoreLock:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError("--out lies in a folder that can be written", f"{self._store} ({error})", "Choose another --out.") from error
        # The second attempt follows the removal of a stale lock; losing that race to another process is its refusal.
        if not self._create():
            self._remove_stale()
            if not self._create():
                self._refuse(*self._holder())
        _held.add(self._file)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _held.discard(self._file)
        self._file.unlink(missing_ok=True)
        if self._finished or not self._store.is_dir() or not any(self._store.iterdir()):
            self._recipe.unlink(missing_ok=True)
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
        write_atomically(self._recipe, json.dumps(recipe, indent=1).encode())

    def _create(self) -> bool:
        try:
            descriptor = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        return True

    def _holder(self) -> tuple[str, int]:
        """Host and process id in the lock file; ("", 0) for one whose writer died before it could fill it in."""
        try:
            values = read_json(self._file)
            return str(values["host"]), int(values["pid"])
        except (UsageError, KeyError, TypeError, ValueError):
            return "", 0

    def _remove_stale(self) -> None:
        host, pid = self._holder()
        here = host in ("", socket.gethostname())
        mine = pid == os.getpid() and self._file not in _held
        if not here or (pid and not mine and _runs(pid)):
            self._refuse(host, pid)
        # Renamed before it is removed: of two processes that saw the same stale lock only one gets it.
        stale = self._folder / f"stale-{os.getpid()}"
        try:
            os.rename(self._file, stale)
        except FileNotFoundError:
            return
        stale.unlink()
        self._notice(f"Taking over {self._store}: process {pid}, which was writing it, no longer runs.")

    def _refuse(self, host: str, pid: int) -> None:
        raise UsageError(
            "one process at a time writes a store", f"{self._store}, which process {pid} on host {host} is writing",
            f"Wait for it, or choose another --out; if that process is gone, delete {self._file}.",
        )


def read_recipe(store: Path) -> dict[str, Any] | None:
    """The recipe of an unfinished store, or None. UsageError if its file is damaged."""
    path = lock_folder(store) / "recipe.json"
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

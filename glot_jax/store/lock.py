"""One writer at a time: `OUT.lock/` beside a store in the making says who, and what is written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from glot_jax.errors import HeldByAnotherError, UsageError
from glot_jax.files import (
    TEMPORARY,
    JsonStyle,
    json_bytes,
    make_folders,
    read_json,
    take_lock,
    write_bytes,
    write_json,
)
from glot_jax.moved import moved_name
from glot_jax.store.layout import EXTRACT_AGAIN, lock_folder, passes_folder
from glot_jax.store.recipe import PendingAppend, Recipe, read_work
from glot_jax.store.worker_plan import PLAN, WorkerPlan

RECIPE = "recipe.json"
COPY = "copy.json"
"""Which store is being copied there."""
DRIVER = "driver"
"""File by which the actors of a cluster know that they see their driver's folder."""

# Version 0.1 wrote its files like this, and a store that it began can be continued.
STYLE = JsonStyle(indent=1, ascii_only=True, allow_nan=True, end="")

_ONLY_WRITER = "lock"
_WORKERS = "worker-*"


class StoreLock:
    """The right to write a store, or a worker's share of its shards, for a `with` block.

    The right is a `flock` on a file, so the system takes it back from a process that died, however
    it died; host and process id are in the file for people. The lock of a process of this host that
    no longer runs is taken over with a `notice`; one of another host is not, because not every
    shared file system carries `flock` between hosts.

    On leaving, the lock goes. The recipe stays for the next run to continue with, unless `finished`
    was called or nothing of the store was written.

    Args:
        store: folder of the store.
        notice: called with a line for the user.
        share: (number, workers) of a worker; None for the only writer.

    Raises:
        UsageError: another process holds the right: any other writer of the store, except workers
            with the same number of workers beside a worker. It names host and process.
    """

    def __init__(
        self,
        store: Path,
        notice: Callable[[str], None] | None = None,
        *,
        share: tuple[int, int] | None = None,
    ):
        self._store = Path(store)
        self._notice = notice
        self._share = share
        self._folder = lock_folder(store)
        name = _ONLY_WRITER if share is None else f"worker-{share[0]}-of-{share[1]}"
        self._file = self._folder / name
        self._held: int | None = None
        self._finished = False

    def __enter__(self) -> StoreLock:
        try:
            make_folders(self._folder)
            self._held = self._take(self._file)
            # Who held it before is in the file still.
            os.ftruncate(self._held, 0)
            holder = {"host": socket.gethostname(), "pid": os.getpid()}
            content = json.dumps(holder).encode()
            os.pwrite(self._held, content, 0)
        except OSError as error:
            self._release()
            raise UsageError(
                rule="--out must lie in a folder that can be written to",
                got=f"{self._store} ({error})",
                fix="Choose another --out.",
            ) from error
        try:
            # Taken first, looked around second: of two writers that start together at least one
            # sees the other.
            self._refuse_rivals()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Colleagues that still write need the recipe, although this worker may have stored nothing.
        others = set(self._folder.glob(_WORKERS)) - {self._file}
        written = self._store.is_dir() and any(self._store.iterdir())
        to_be_continued = bool(written or others or passes_folder(self._store).is_dir())
        nothing_to_continue = self._finished or not to_be_continued
        # Another worker may be leaving too: what it has removed is gone, and the last one removes
        # the folder.
        if nothing_to_continue:
            with contextlib.suppress(OSError):
                self._remove_notes()
        self._release()
        if nothing_to_continue:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def finished(self) -> None:
        """The store is complete: leave nothing beside it."""
        self._finished = True

    def begun_with(self) -> Recipe | PendingAppend | None:
        """What the unfinished store beside this lock was begun with, if there is one."""
        return read_begun(self._store)

    def begin(self, work: Recipe | PendingAppend) -> Recipe | PendingAppend:
        """Keep what is being written for runs that continue it.

        Called before the first file of the store is written.

        Returns:
            What is kept. Of workers that start together it is the first one's, which the others
            compare theirs with.
        """
        content = json_bytes(work.to_json(), STYLE)
        write_bytes(self._folder / RECIPE, content, replace=False, again=EXTRACT_AGAIN)
        return self.begun_with() or work

    def plan(self, plan: WorkerPlan) -> None:
        """Keep what a store that workers write will consist of, for `finish`."""
        path = self._folder / PLAN
        write_json(path, plan.to_json(), STYLE, again=EXTRACT_AGAIN)

    def begun_copy(self) -> bytes | None:
        """What `begin_copy` has kept of a copy that is not whole; None if there is none."""
        try:
            return (self._folder / COPY).read_bytes()
        except FileNotFoundError:
            return None

    def begin_copy(self, note: bytes) -> None:
        """Keep which store is copied, for the run that continues it."""
        write_bytes(self._folder / COPY, note)

    def _take(self, path: Path) -> int:
        """A descriptor that holds the lock of `path`, which is made if it is absent."""
        while True:
            descriptor = self._claim(_open_lock(path), path)
            if descriptor is not None:
                return descriptor

    def _claim(self, lock: _LockFile, path: Path) -> int | None:
        """The file's descriptor, now holding its lock; None if its holder took the file away.

        Raises:
            UsageError: another process holds the lock, or may hold it.
        """
        try:
            host = ""
            pid = 0
            if lock.existed:
                host, pid = _holder(lock.descriptor)
            locked = take_lock(lock.descriptor, wait=False)
            if lock.existed and not locked:
                # Without locks of the system, who created the file holds it; whether it still runs,
                # nobody can tell safely.
                raise self._refusal(path, host, pid)
            if not _is_at(lock.descriptor, path):
                # The lock of a file without a name keeps nobody out.
                os.close(lock.descriptor)
                return None
            if host not in ("", socket.gethostname()):
                raise self._refusal(path, host, pid)
        except BlockingIOError as error:
            # Read again: the holder may have written its name since.
            host, pid = _holder(lock.descriptor)
            os.close(lock.descriptor)
            raise self._refusal(path, host, pid) from error
        except BaseException:
            os.close(lock.descriptor)
            raise
        if lock.existed and self._notice is not None:
            self._notice(
                f"Taking over {self._store}: process {pid or 'unknown'}, which was writing it, no"
                " longer runs."
            )
        return lock.descriptor

    def _refuse_rivals(self) -> None:
        """Raise UsageError for a rival that lives; remove the locks of those that died."""
        for path in self._rivals():
            try:
                lock = _LockFile(os.open(path, os.O_RDWR), existed=True)
            except FileNotFoundError:
                continue
            descriptor = self._claim(lock, path)
            if descriptor is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)

    def _rivals(self) -> list[Path]:
        """Locks that must not be held beside this one."""
        paths = [self._folder / _ONLY_WRITER]
        paths += sorted(self._folder.glob(_WORKERS))
        others = [path for path in paths if path.exists()]
        # Its own is there, too: it is taken before rivals are looked for.
        if self._file in others:
            others.remove(self._file)
        if self._share is None:
            return others
        # Workers with the same N share the shards out among them by number.
        _, workers = self._share
        colleagues = f"-of-{workers}"
        return [path for path in others if not path.name.endswith(colleagues)]

    def _remove_notes(self) -> None:
        for name in (RECIPE, PLAN, DRIVER, COPY):
            path = self._folder / name
            path.unlink(missing_ok=True)
        shutil.rmtree(passes_folder(self._store), ignore_errors=True)
        for path in self._folder.glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)

    def _release(self) -> None:
        # Nothing was taken: making the folder or the file has failed.
        if self._held is None:
            return
        # Unless somebody else put a file of their own there.
        if _is_at(self._held, self._file):
            self._file.unlink(missing_ok=True)
        os.close(self._held)
        self._held = None

    def _refusal(self, file: Path, host: str, pid: int) -> HeldByAnotherError:
        return HeldByAnotherError(
            rule="only one process, or workers with the same N, may write a store",
            got=f"{self._store}, which process {pid} on host {host} is writing",
            fix=f"Wait for it, or choose another --out; if that process is gone, delete {file}.",
        )


class _LockFile(NamedTuple):
    """An open lock file, not yet locked."""

    descriptor: int
    existed: bool
    """Whether another process made it, which may have died."""


def _open_lock(path: Path) -> _LockFile:
    """Open a lock file, or make it."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return _LockFile(os.open(path, os.O_RDWR), existed=True)
        # Another process may make or remove it between the two calls.
        try:
            # O_EXCL: of two processes that make it at once, one learns that it did not.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            descriptor = os.open(path, flags, 0o644)
            return _LockFile(descriptor, existed=False)
        except FileExistsError:
            continue
        except FileNotFoundError:
            # Whoever leaves last removes the folder with it.
            make_folders(path.parent)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    held = os.fstat(descriptor)
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(held, named)


def _holder(descriptor: int) -> tuple[str, int]:
    """Host and process id in a lock file.

    ("", 0) for one that is just being written, or that a power cut emptied.
    """
    try:
        # Read at byte 0, wherever this descriptor stands.
        values = json.loads(os.pread(descriptor, 4096, 0))
        return str(values["host"]), int(values["pid"])
    except (KeyError, TypeError, ValueError):
        return "", 0


def read_begun(store: Path) -> Recipe | PendingAppend | None:
    """What an unfinished store, or an unfinished append to a store, was begun with.

    Returns:
        None if there is nothing unfinished.

    Raises:
        UsageError: the file that says so is damaged.
    """
    path = lock_folder(store) / RECIPE
    if not path.is_file():
        return None
    fix = f"Delete {store} and {path.parent}, and start again."
    return work_of(read_json(path, fix), path, fix)


def work_of(values: object, path: object, fix: str) -> Recipe | PendingAppend:
    """What an unfinished store was begun with, by the JSON values that say so.

    Args:
        values: of RECIPE.
        path: where they are from, for messages.
        fix: what to do where they are damaged.

    Raises:
        UsageError: they are damaged.
    """
    if not isinstance(values, dict):
        raise UsageError(
            rule="the recipe of an unfinished store must be a JSON object", got=path, fix=fix
        )
    try:
        return read_work(values)
    except UsageError as error:
        raise UsageError(
            rule="the recipe of an unfinished store must be whole",
            got=f"{path}: {error.rule}; got {error.got}",
            fix=fix,
        ) from error


_MOVED = {
    "PLAN": "store.worker_plan",
    "read_plan": "store.worker_plan",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)

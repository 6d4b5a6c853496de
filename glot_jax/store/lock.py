"""One writer at a time:

`OUT.lock/` beside a store in the making holds its recipe and who is writing it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from glot_jax.errors import UsageError, require
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
from glot_jax.store.identity import canonical_sha256
from glot_jax.store.manifest import lock_folder
from glot_jax.store.recipe import PendingAppend, Recipe, read_work

RECIPE = "recipe.json"
PLAN = "plan.json"
_STYLE = JsonStyle(indent=1, ascii_only=True, allow_nan=True, end="")


class StoreLock:
    """Hold the right to write a store, or a worker's share of its shards, for the length of a
    `with` block.

    The right is a `flock` on a file, so the system takes it back from a process that died, however
    it died; host and process id are in the file for people. UsageError names them if another
    process holds it: any other writer of the store, except workers of the same number beside a
    worker. The lock of a process of this host that no longer runs is taken over with a `notice`;
    one of another host is not, because not every shared file system carries `flock` between hosts.
    On leaving, the lock goes; the recipe stays for the next run to continue with, unless `finished`
    was called or nothing of the store was written.

    Args:
        store: folder of the store.
        notice: called with a line for the user.
        share: (number, workers) of a worker; None for the only writer.
    """

    def __init__(
        self,
        store: Path,
        notice: Callable[[str], None] = lambda text: None,
        *,
        share: tuple[int, int] | None = None,
    ):
        self._store, self._notice, self._share = Path(store), notice, share
        self._folder = lock_folder(store)
        self._file = self._folder / (
            "lock" if share is None else f"worker-{share[0]}-of-{share[1]}"
        )
        self._held: int | None = None
        self._finished = False

    def __enter__(self) -> StoreLock:
        try:
            make_folders(self._folder)
            file = self._held = self._take(self._file)
            os.ftruncate(file, 0)
            os.pwrite(
                file, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0
            )
        except OSError as error:
            self._release()
            raise UsageError(
                "--out lies in a folder that can be written",
                f"{self._store} ({error})",
                "Choose another --out.",
            ) from error
        try:
            # Taken first, looked around second: of two writers that start together at least one
            # sees the other.
            for other in self._rivals():
                file = self._take(other, create=False)
                if file is not None:
                    other.unlink(missing_ok=True)
                    os.close(file)
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
        others = any(path != self._file for path in self._folder.glob("worker-*"))
        written = self._store.is_dir() and any(self._store.iterdir())
        empty = self._finished or not (written or others)
        # Another worker may be leaving too: what it has removed is gone, and the last one removes
        # the folder.
        with contextlib.suppress(OSError):
            for path in (
                (self._folder / RECIPE, self._folder / PLAN, *self._folder.glob(f"{TEMPORARY}*"))
                if empty
                else ()
            ):
                path.unlink(missing_ok=True)
        self._release()
        if empty:
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
        write_bytes(self._folder / RECIPE, json_bytes(work.to_json(), _STYLE), replace=False)
        return self.begun_with() or work

    def plan(self, plan: Mapping[str, Any]) -> None:
        """Keep what a store that workers write will consist of, for `finish`."""
        signed = {**plan, "sha256": canonical_sha256(plan)}
        write_json(self._folder / PLAN, signed, _STYLE)

    def _take(self, path: Path, *, create: bool = True) -> Any:
        """A descriptor that holds the lock; None for one that is gone and not to be created.

        UsageError where another holds it.
        """
        while True:
            try:
                file, old = os.open(path, os.O_RDWR), True
            except FileNotFoundError:
                if not create:
                    return None
                try:
                    file, old = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), False
                except FileExistsError:
                    continue
            try:
                host, pid = _holder(file) if old else ("", 0)
                if not take_lock(file, wait=False) and old:
                    # Without locks of the system, who created the file holds it; whether it still
                    # runs, nobody can tell safely.
                    self._refuse(path, host, pid)
                if not _is_at(file, path):
                    os.close(file)  # its holder left, and took the file along
                    continue
                if old and host not in ("", socket.gethostname()):
                    self._refuse(path, host, pid)
            except BlockingIOError:
                host, pid = _holder(file)
                os.close(file)
                self._refuse(path, host, pid)
            except BaseException:
                os.close(file)
                raise
            if old:
                self._notice(
                    f"Taking over {self._store}: process {pid or 'unknown'}, which was writing it,"
                    " no longer runs."
                )
            return file

    def _release(self) -> None:
        if self._held is None:
            return
        if _is_at(self._held, self._file):
            self._file.unlink(missing_ok=True)
        os.close(self._held)
        self._held = None

    def _rivals(self) -> list[Path]:
        """Locks that may not be held beside this one."""
        others = [
            path
            for path in (self._folder / "lock", *sorted(self._folder.glob("worker-*")))
            if path != self._file and path.exists()
        ]
        if self._share is None:
            return others
        return [path for path in others if not path.name.endswith(f"-of-{self._share[1]}")]

    def _refuse(self, file: Path, host: str, pid: int) -> NoReturn:
        raise UsageError(
            "one process at a time writes a store, or workers of one number",
            f"{self._store}, which process {pid} on host {host} is writing",
            f"Wait for it, or choose another --out; if that process is gone, delete {file}.",
        )


def _is_at(file: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(file: int) -> tuple[str, int]:
    """Host and process id in a lock file; ("", 0) for one that is just being written, or that a
    power cut emptied.
    """
    try:
        values = json.loads(os.pread(file, 4096, 0))
        return str(values["host"]), int(values["pid"])
    except (KeyError, TypeError, ValueError):
        return "", 0


def read_plan(store: Path) -> dict[str, Any] | None:
    """What worker 0 of an unfinished store left: {workers, task, splits}; None if it has not come
    to its end. UsageError if it is damaged.
    """
    path = lock_folder(store) / PLAN
    if not path.is_file():
        return None
    plan = read_json(path)
    sha256 = plan.pop("sha256", None) if isinstance(plan, dict) else None
    require(
        sha256 is not None and canonical_sha256(plan) == sha256,
        "the plan of a store has the sha256 it was written with",
        path,
        "Run worker 0 again.",
    )
    return plan


def read_begun(store: Path) -> Recipe | PendingAppend | None:
    """What an unfinished store, or an unfinished append to a store, was begun with; None if there
    is nothing unfinished.

    Raises:
        UsageError: the file that says so is damaged.
    """
    path = lock_folder(store) / RECIPE
    if not path.is_file():
        return None
    fix = f"Delete {store} and {path.parent}, and start again."
    values = read_json(path, fix)
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

"""Files of a store at a URL, kept on this machine: fetched once, hashed on the way.

    ~/.cache/glot-jax/stores/<content>/<split>/shard-00000/hidden-L6-00000.npy

The folder is named by the store's content, so that a file in it is never out of date, whichever URL
it came from; runs share it, and several processes may fetch at the same time. It is its user's
alone: token states tell much about the texts that they were made of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

from glot_jax import disk
from glot_jax.errors import UsageError
from glot_jax.files import TEMPORARY, explain_write_error, make_folders, make_private, user_cache
from glot_jax.remote.objects import Objects

_THREADS = 8
_CONTENT = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A file that is to lie in the cache."""

    path: Path
    """Where."""
    sha256: str
    size: int


class FileCache:
    """The files of one store.

    Args:
        objects: the store's.
        content: its content, hex.
        folder: of all stores' files. Default: the user's cache.

    Raises:
        UsageError: `content` is no hash.
    """

    def __init__(self, objects: Objects, content: str, folder: Path | None = None):
        # It becomes a path, and came from a file of somebody else.
        if _CONTENT.fullmatch(content) is None:
            raise UsageError(
                rule="the content of a store must be 64 hexadecimal digits",
                got=repr(content[:80]),
                fix="Restore the manifest from a copy, or extract the store again.",
            )
        self.objects = objects
        self._parent = folder or user_cache("stores")
        self.folder = self._parent / content
        self._is_private = True
        self.fetched = 0
        """Bytes that this process has fetched."""
        self._lock = threading.Lock()
        self._running: dict[Path, Future[None]] = {}
        self._queue: deque[tuple[Wanted, Callable[[], None] | None]] = deque()
        self._threads = 0

    @classmethod
    def at(cls, objects: Objects, folder: Path) -> FileCache:
        """The files of a store that is copied: into a folder that the user has named."""
        # Its name is the user's, and no content.
        copy = cls(objects, "0" * 64, folder.parent)
        copy.folder = folder
        # Nor is it ours to close to others.
        copy._is_private = False
        return copy

    def missing(self, files: Iterable[Wanted]) -> list[Wanted]:
        """Those of some files that are not here."""
        return [file for file in files if not _is_here(file)]

    def require_room(self, files: Iterable[Wanted]) -> int:
        """Compare what is to be fetched with the room there is, before its first byte.

        Returns:
            Bytes to fetch.

        Raises:
            UsageError: the disk is too small.
        """
        # What is here already takes no more room.
        missing = self.missing(files)
        needed = sum(file.size for file in missing)
        if not needed:
            return 0
        self._make_folders()
        free = shutil.disk_usage(self._parent).free
        if needed > free:
            raise UsageError(
                rule=f"the disk of {self._parent} must have room for what is read of"
                f" {self.objects.url}",
                got=f"{needed} bytes to fetch, {free} bytes free, {needed - free} too few",
                fix="Give --store-cache a folder on a larger disk, remove stores from this one, or"
                " read fewer layers.",
            )
        return needed

    def fetch(self, file: Wanted) -> bool:
        """Have a file in the cache; whether it was fetched, and hashed thereby, just now.

        Raises:
            UsageError: the service does not give it, its bytes are others, or the disk refused.
        """
        # By its size: whoever reads it compares its hash.
        if _is_here(file):
            return False
        with self._lock:
            running = self._running.get(file.path)
            if running is None:
                self._running[file.path] = Future()
        # Another thread is at it.
        if running is not None:
            running.result()
            return True
        future = self._running[file.path]
        try:
            self._download(file)
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._running[file.path]
        return True

    def drop(self, file: Wanted) -> None:
        """Forget a file that has become another on this disk."""
        disk.remove(file.path)

    def ahead(self, files: Iterable[tuple[Wanted, Callable[[], None] | None]]) -> None:
        """Begin to fetch files on other threads, in this order.

        Args:
            files: each with what is called where it is here already.
        """
        with self._lock:
            self._queue.extend(files)
            # Threads end where there is nothing left to do, and are started anew.
            fresh = min(_THREADS, len(self._queue)) - self._threads
            self._threads += max(0, fresh)
        for _ in range(fresh):
            # No daemon: one that is inside obstore when Python ends would end with an abort.
            threading.Thread(target=self._work, name="fetch").start()

    def _work(self) -> None:
        try:
            # A process that ends waits for the pieces in flight, and for no more.
            while threading.main_thread().is_alive():
                with self._lock:
                    if not self._queue:
                        return
                    file, otherwise = self._queue.popleft()
                # Another thread may have fetched it since, because somebody asked for it.
                if not self.fetch(file) and otherwise is not None:
                    otherwise()
        except UsageError:
            # Raised again where the file is asked for. The rest would hardly fare better.
            with self._lock:
                self._queue.clear()
        finally:
            with self._lock:
                self._threads -= 1

    def _download(self, file: Wanted) -> None:
        self._make_folders()
        make_folders(file.path.parent)
        # A name of this attempt: another process may fetch the same file.
        temporary = file.path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{file.path.name}")
        try:
            self._write(file, temporary)
            disk.rename(temporary, file.path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                disk.remove(temporary)
            explain_write_error(error, file.path, file.size)
            raise

    def _make_folders(self) -> None:
        if self._is_private:
            make_private(self._parent, "the cache of stores")

    def _write(self, file: Wanted, temporary: Path) -> None:
        name = file.path.relative_to(self.folder).as_posix()
        digest = hashlib.sha256()
        written = 0
        descriptor = disk.create(temporary)
        try:
            for chunk in self.objects.stream(name, file.size):
                # Python waits for this thread before it ends.
                if not threading.main_thread().is_alive():
                    raise UsageError("a file must be fetched whole", "the end of the process", "")
                disk.write(descriptor, chunk, written)
                digest.update(chunk)
                written += len(chunk)
        finally:
            # Not synced: after a power cut its size or its hash tells, and it is fetched again.
            disk.close(descriptor)
        if written != file.size or digest.hexdigest() != file.sha256:
            raise UsageError(
                rule="a stored file must have the sha256 of its record",
                got=f"{self.objects.url / name}, whose content differs",
                fix="Restore it from a copy (`glot store copy`), or extract the store again;"
                " `glot store verify` lists all such files.",
            )
        with self._lock:
            self.fetched += written


def _is_here(file: Wanted) -> bool:
    try:
        return file.path.stat().st_size == file.size
    except OSError:
        return False

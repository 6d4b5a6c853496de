"""Whether the files of a store are there, and are what they were when they were written."""

from __future__ import annotations

import errno
import functools
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypedDict

from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.remote.fetching import FileCache, Wanted

REPAIR = (
    "Restore the file from a copy, or extract the store again into a new folder; `glot store"
    " verify` lists all such files."
)


class FileRecord(TypedDict):
    """What a manifest says about one file."""

    sha256: str
    bytes: int


class NotFetched(UsageError):
    """A link to a file that is not on this machine, or a pointer in a file's place."""


_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("git-lfs", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
}
"""What a file begins with that stands for another -> the tool that put it there, and the command
that fetches the other."""


class _FileKey(NamedTuple):
    """A state of a file that was compared with a hash; a file written since then has another."""

    path: str
    inode: int
    bytes: int
    mtime_ns: int
    sha256: str


_hashing: dict[_FileKey, Future[str]] = {}
"""Hashes that other threads compute, or have computed."""

_checked: set[_FileKey] = set()
"""Files that this process has compared with their record."""


def require_fetched(path: Path) -> None:
    """Refuse what other tools put in the place of a store's file; a missing file is not refused.

    A link is as good as a file, because content is compared with its hash: DVC and git-annex lay
    out stores of links into a cache.

    Raises:
        NotFetched: the link leads nowhere, or the file only points to another.
    """
    # Any folder above the file may be the link.
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise NotFetched(
                rule="the files of a store must be on this machine",
                got=f"{part}, a link to {os.readlink(part)}, which is missing",
                fix="Fetch them with the tool that made the link (`dvc pull`, `git annex get`), or"
                " copy the store with the files themselves.",
            )
    try:
        # Pointer files are short, but a store's file may have gigabytes.
        with open(path, "rb") as file:
            beginning = file.read(64)
    except OSError:
        # Missing, a folder, or unreadable: the caller knows better what to say.
        return
    for mark, (tool, command) in _POINTERS.items():
        if beginning.startswith(mark):
            raise NotFetched(
                rule="the files of a store must be on this machine",
                got=f"{path}, a pointer of {tool} in the file's place",
                fix=f"Run `{command}`.",
            )


def check_file(path: Path, record: FileRecord, *, trust: bool = False) -> None:
    """Compare a file, or the file that a link leads to, with its record.

    The hash is computed once per process and file, and not at all with `trust`.

    Raises:
        UsageError: the file is missing, unreadable or different; it names the path.
    """
    try:
        _check_size(path, record)
        if trust:
            return
        # Taken before the file is hashed: one that changes meanwhile is hashed again next time.
        key = _key(path, record)
        if key in _checked:
            return
        # Taken out: a second look at a file that was wrong hashes it again.
        begun = _hashing.pop(key, None)
        digest = file_sha256(path) if begun is None else begun.result()
    except OSError as error:
        raise unreadable(path, error) from error
    if digest != record["sha256"]:
        raise UsageError(
            rule="a stored file must have the sha256 of its record",
            got=f"{path}, whose content differs",
            fix=REPAIR,
        )
    _checked.add(key)


def require_file(
    path: Path,
    record: FileRecord,
    cache: FileCache | None,
    *,
    trust: bool,
) -> None:
    """Have a file of a store on this machine, equal to its record.

    Args:
        path: where it lies.
        record: what the manifest says about it.
        cache: what fetches the files of a store at a URL; None for a store of this machine.
        trust: leave out the hash of a file that is here already.

    Raises:
        UsageError: as for `check_file`, and `FileCache.fetch`.
    """
    if cache is None:
        check_file(path, record, trust=trust)
        return
    file = Wanted(path, record["sha256"], record["bytes"])
    if not cache.fetch(file):
        try:
            check_file(path, record, trust=trust)
            return
        except UsageError:
            # Of a copy that this disk has spoilt there is another one.
            cache.drop(file)
            cache.fetch(file)
    # Hashed as it came.
    _checked.add(_key(path, record))


def _check_size(path: Path, record: FileRecord) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size == record["bytes"]:
        return
    # What stands in the file's place explains it better than a size does.
    require_fetched(path)
    if size is None:
        raise UsageError(
            rule="a store must hold every file of its manifest",
            got=f"{path}, which is missing",
            fix=REPAIR,
        )
    raise UsageError(
        rule="a stored file must have the size of its record",
        got=f"{path} with {size} bytes instead of {record['bytes']}",
        fix=REPAIR,
    )


def hash_ahead(path: Path, record: FileRecord) -> None:
    """Begin to hash a file on another thread; `check_file` waits for the result."""
    try:
        key = _key(path, record)
    except OSError:
        # `check_file` says what is wrong, when the file is really asked for.
        return
    if key not in _checked and key not in _hashing:
        _hashing[key] = Future()
        _hashing_queue().put((path, _hashing[key]))


def _key(path: Path, record: FileRecord) -> _FileKey:
    # The state of the file, or of the one that a link leads to.
    status = path.stat()
    return _FileKey(
        path=os.path.abspath(path),
        inode=status.st_ino,
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=record["sha256"],
    )


@functools.cache
def _hashing_queue() -> SimpleQueue[tuple[Path, Future[str]]]:
    """Queue of the hashing threads.

    They are daemons, so that a process can exit without waiting for hashes that nobody needs.
    """
    queue: SimpleQueue[tuple[Path, Future[str]]] = SimpleQueue()

    def work() -> None:
        while True:
            path, result = queue.get()
            try:
                result.set_result(file_sha256(path))
            except BaseException as error:
                # Raised where the hash is asked for; the thread goes on with the next file.
                result.set_exception(error)

    # Hashing releases the interpreter's lock, so threads use as many cores.
    # More than a few make a disk seek between files instead of reading them.
    for number in range(min(8, os.cpu_count() or 1)):
        thread = threading.Thread(
            target=work,
            name=f"sha256-{number}",
            daemon=True,
        )
        thread.start()
    return queue


def unreadable(path: Path, error: OSError) -> UsageError:
    """What the system says when a stored file cannot be read, which is not always its fault."""
    # The files are sound: reading them all at once is what the system does not allow.
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return UsageError(
            rule="a process must be allowed to keep a file open per shard and layer",
            got=f"{error} at {path}",
            fix="Raise the limit (ulimit -n), or extract with larger --shard-tokens.",
        )
    if error.errno == errno.ENOMEM:
        return UsageError(
            rule="the system must have address space for the store",
            got=f"{error} at {path}",
            fix="Free memory, or raise vm.max_map_count.",
        )
    return UsageError(
        rule="a stored file must be readable",
        got=f"{error} at {path}",
        fix=f"Check access and disk. {REPAIR}",
    )

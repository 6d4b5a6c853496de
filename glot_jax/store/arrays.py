"""The files of a store: written whole or not at all, read through memory maps, and checked against
their hashes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ml_dtypes
import numpy as np

from glot_jax.errors import UsageError, lookup, require
from glot_jax.files import file_sha256

DTYPES: dict[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "int8": np.dtype(np.int8),
}
"""Logical dtype of stored states -> what NumPy calls it. int8 comes with a scale per token
(`quantise`).
"""


def stored_dtype(logical: str) -> np.dtype:
    """The dtype in the .npy header: bfloat16 is stored as uint16, because .npy has no name
    for it.
    """
    return (
        np.dtype(np.uint16) if logical == "bfloat16" else lookup(DTYPES, logical, "storage dtype")
    )


REPAIR = (
    "Restore the file from a copy, or extract the store again into a new folder; `glot store"
    " verify` lists all such files."
)
_begun: dict[tuple[str, int, int, int, str], Future[str]] = {}
_checked: set[tuple[str, int, int, int, str]] = set()
"""Files this process has hashed: (path, inode, bytes, mtime in ns, sha256).

A file written since then is hashed again.
"""


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of an array's .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class NotFetched(UsageError):
    """A link to a file that is not on this machine, or a pointer in a file's place."""


_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("git-lfs", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
}
"""What a file begins with that stands for another -> whose it is, and the command that fetches what
it stands for.
"""


def require_fetched(path: Path) -> None:
    """Raise NotFetched if there is something else in the place of a store's file; of a file that is
    just missing nothing is said.

    A link is as good as a file, for content is compared with its hash: DVC and git-annex lay out
    stores of links into a cache.
    """
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise NotFetched(
                "the files of a store are on this machine",
                f"{part}, a link to {os.readlink(part)}, which is missing",
                "Fetch them with the tool that made the link (`dvc pull`, `git annex get`), or copy"
                " the store with the files themselves.",
            )
    try:
        with open(path, "rb") as file:
            begin = file.read(64)
    except OSError:  # missing, a folder, or unreadable: whoever asked knows what to say
        return
    for mark, (tool, command) in _POINTERS.items():
        if begin.startswith(mark):
            raise NotFetched(
                "the files of a store are on this machine",
                f"{path}, a pointer of {tool} in the file's place",
                f"Run `{command}`.",
            )


def check_file(path: Path, expected: Mapping[str, Any], *, trust: bool = False) -> None:
    """Compare a file, or the file that a link leads to, with its record {"sha256", "bytes"};
    UsageError naming the path if it differs.

    The hash is computed once per process and file, and not at all with `trust`.
    """
    try:
        there = path.is_file()
        if not there or path.stat().st_size != expected["bytes"]:
            require_fetched(path)
        require(
            there, "a store holds every file of its manifest", f"{path}, which is missing", REPAIR
        )
        status = path.stat()
        require(
            status.st_size == expected["bytes"],
            "a stored file has the size of its record",
            f"{path} with {status.st_size} bytes instead of {expected['bytes']}",
            REPAIR,
        )
        if trust or _key(path, status, expected) in _checked:
            return
        begun = _begun.pop(_key(path, status, expected), None)
        found = begun.result() if begun is not None else file_sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    require(
        found == expected["sha256"],
        "a stored file has the sha256 of its record",
        f"{path}, whose content differs",
        REPAIR,
    )
    _checked.add(_key(path, status, expected))


def hash_ahead(path: Path, expected: Mapping[str, Any]) -> None:
    """Begin to hash a file on another thread; `check_file` waits for the result.

    What is wrong with it is found there.
    """
    try:
        key = _key(path, path.stat(), expected)
    except OSError:
        return
    if key not in _checked and key not in _begun:
        _begun[key] = Future()
        _hashing_queue().put((path, _begun[key]))


def _key(
    path: Path, status: os.stat_result, expected: Mapping[str, Any]
) -> tuple[str, int, int, int, str]:
    return (
        os.path.abspath(path),
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        expected["sha256"],
    )


@functools.cache
def _hashing_queue() -> SimpleQueue[tuple[Path, Future[str]]]:
    """Of threads that hash.

    Daemons: a process that has said why it stops does not wait for what nobody will read.
    """
    queue: SimpleQueue[tuple[Path, Future[str]]] = SimpleQueue()

    def work() -> None:
        while True:
            path, result = queue.get()
            try:
                result.set_result(file_sha256(path))
            except BaseException as error:
                result.set_exception(error)

    # Hashing leaves the interpreter's lock alone, so threads use as many cores.
    for number in range(min(8, os.cpu_count() or 1)):
        threading.Thread(target=work, name=f"sha256-{number}", daemon=True).start()
    return queue


def load_array(path: Path, dtype: np.dtype | None, shape: tuple[int, ...]) -> np.ndarray:
    """Memory-map an .npy file, read-only, never unpickling; UsageError unless it has this dtype
    (None: any) and shape.
    """
    _allow_many_files()
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise UsageError(
            "a stored array is a readable .npy file", f"{path} ({error})", REPAIR
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    require(
        array.flags.c_contiguous, "a stored array is in C order", f"{path} in Fortran order", REPAIR
    )
    found = f"{path} with {array.dtype} {array.shape} instead of {dtype or array.dtype} {shape}"
    require(
        array.shape == shape and (dtype is None or array.dtype == dtype),
        "a stored array has the dtype and shape of its record",
        found,
        REPAIR,
    )
    # A plain view of the map: np.memmap's own indexing costs several times more per text.
    return np.asarray(array)


def _unreadable(path: Path, error: OSError) -> UsageError:
    """What the disk or the system says, which is not always the file's fault."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return UsageError(
            "a process may keep a file open per shard and layer",
            f"{error} at {path}",
            "Raise the limit (ulimit -n), or extract with larger --shard-tokens.",
        )
    if error.errno == errno.ENOMEM:
        return UsageError(
            "the system has address space for the store",
            f"{error} at {path}",
            "Free memory, or raise vm.max_map_count.",
        )
    return UsageError(
        "a stored file can be read", f"{error} at {path}", f"Check access and disk. {REPAIR}"
    )


@functools.cache
def _allow_many_files() -> None:
    """A mapped file keeps a descriptor in Python: take all that this user may have, where the usual
    limit is 1024.
    """
    try:
        import resource
    except ImportError:  # no such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

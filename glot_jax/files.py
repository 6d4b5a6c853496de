"""The one writer of files: whatever appears under its name is whole, however the process ends.

| what is written | function |
| --- | --- |
| bytes | `write_bytes` |
| JSON values | `write_json`, read back by `read_json` |
| NumPy arrays in one archive | `write_npz` |
| what a library writes to a path | `whole_file`, `whole_folder` |
| one process at a time | `locked`, over `take_lock` |

All of them go through `glot_jax.disk`, where tests let each call fail, tear or come last. A process
that is killed leaves at most a file or folder whose name begins with `TEMPORARY`; nobody reads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glot_jax import disk
from glot_jax.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    # Not at run time: commands that only parse their options import this module as well.
    import numpy as np

Json = Any
"""What JSON holds: None, a truth value, a number, a text, a list or an object."""

TEMPORARY = ".tmp-"
"""Prefix of the name of everything that is still being written."""

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What a file system without `flock` answers; some network file systems say EINVAL."""

AGAIN = "run the same command again"
"""How an error tells the user to go on; commands that are continued another way say so."""

# A user's quota and a full disk are one thing to the user: free some space.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True)
class JsonStyle:
    """How JSON values are spelled in a file: equal values give equal bytes in all versions."""

    indent: int
    ascii_only: bool
    """Escape everything beyond ASCII, instead of writing UTF-8."""
    allow_nan: bool
    """Write NaN and the infinities, which JSON does not have; otherwise they are a ValueError."""
    end: str = "\n"
    """What follows the values."""


RUN_STYLE = JsonStyle(indent=2, ascii_only=False, allow_nan=False)
"""Files of run folders and exports."""
STORE_STYLE = JsonStyle(indent=1, ascii_only=True, allow_nan=False)
"""The manifest of a store."""
TABLE_STYLE = JsonStyle(indent=1, ascii_only=True, allow_nan=True)
"""Records of experiments and reports, where a score that is not defined is NaN."""


def write_bytes(path: Path, data: bytes, *, replace: bool = True, again: str = AGAIN) -> bool:
    """Write a file so that it is whole and on the disk, or not there at all.

    Several processes may write the same file at once: the last one's stays.

    Args:
        path: the file; its folder must exist.
        data: all of its bytes.
        replace: False writes only where no file has the name yet; of several processes that try,
            one succeeds.
        again: how the error tells the user to go on.

    Returns:
        Whether the file was written.

    Raises:
        UsageError: the disk refused; for a full disk with the number of bytes that are missing.
    """
    temporary = _temporary(path)
    try:
        file = disk.create(temporary)
        try:
            disk.write(file, data, 0)
            # Before the name: after a power cut a name may be there whose bytes are not.
            disk.sync(file)
        finally:
            disk.close(file)
        if replace:
            disk.rename(temporary, path)
        else:
            # A link fails where a rename would replace, and is made at once as well.
            try:
                disk.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                disk.remove(temporary)
        # Without this a power cut may still take the name back.
        disk.sync_folder(path.parent)
    except BaseException as error:
        _discard(temporary)
        explain_write_error(error, path, len(data), again=again)
        raise
    return True


def json_bytes(values: Json, style: JsonStyle = RUN_STYLE) -> bytes:
    """The bytes that `write_json` writes."""
    text = json.dumps(
        values, indent=style.indent, ensure_ascii=style.ascii_only, allow_nan=style.allow_nan
    )
    # A file name that is not UTF-8 holds lone surrogates. Written as JSON's own escapes they come
    # back as they were.
    return (text + style.end).encode("utf-8", "backslashreplace")


def write_json(
    path: Path, values: Json, style: JsonStyle = RUN_STYLE, *, again: str = AGAIN
) -> None:
    """Write plain JSON values so that the file is whole or not there at all.

    `again` is how the error tells the user to go on.

    Raises:
        ValueError: the values hold NaN or an infinity, and `style` does not allow them.
        UsageError: the disk refused.
    """
    write_bytes(path, json_bytes(values, style), again=again)


def read_json(path: Path, fix: str = "Restore the file, or make it again.") -> Json:
    """Parse a JSON file.

    Args:
        path: the file.
        fix: what the reader of the error should do about a file that cannot be used.

    Raises:
        UsageError: the file is missing, unreadable, cut or not JSON.
    """
    try:
        # Decoded here: from bytes `json` would also accept UTF-16, which no version has written.
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            rule=f"{path.name} must exist", got=f"{path}, which is missing", fix=fix
        ) from error
    except OSError as error:
        raise UsageError(
            rule=f"{path.name} must be readable", got=f"{path}: {error.strerror}", fix=fix
        ) from error
    except (ValueError, RecursionError) as error:
        # ValueError: not JSON, not UTF-8, or a number of thousands of digits.
        raise UsageError(
            rule=f"{path.name} must be a whole JSON file", got=f"{path}: {error}", fix=fix
        ) from error


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, again: str = AGAIN) -> None:
    """Write named arrays to an uncompressed .npz archive that is whole or not there at all.

    `again` is how the error tells the user to go on.

    Raises:
        UsageError: the disk refused.
    """
    import numpy as np

    buffer = io.BytesIO()
    # For the type checker a name could be that of an option of savez.
    np.savez(buffer, **cast("Mapping[str, Any]", arrays))
    write_bytes(path, buffer.getvalue(), again=again)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name of a file to write, which becomes `path` when the block ends without an error.

    For writers of other libraries, and for files too large to be held in memory.

        with whole_file(out) as temporary:
            figure.savefig(temporary)

    Raises:
        UsageError: the disk refused, inside the block as well; it names `path`.
    """
    path = Path(os.path.abspath(path))
    temporary = _temporary(path)
    try:
        yield temporary
        # Its writer closed it without a sync, as other libraries do.
        _sync_file(temporary)
        disk.rename(temporary, path)
        disk.sync_folder(path.parent)
    except BaseException as error:
        _discard(temporary)
        explain_write_error(error, path)
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes `path` when the block ends without an error.

    `path` may be an empty folder already; its parents are made.

    Raises:
        UsageError: the disk refused, inside the block as well, or `path` is not empty; it names
            `path`.
    """
    path = Path(os.path.abspath(path))
    temporary = _temporary(path)
    try:
        make_folders(path.parent)
        disk.make_folder(temporary)
        yield temporary
        sync_tree(temporary)
        if path.is_dir():
            path.rmdir()  # os.replace puts a folder over an empty one on POSIX systems alone
        disk.rename(temporary, path)
        disk.sync_folder(path.parent)
    except BaseException as error:
        _discard(temporary)
        explain_write_error(error, path)
        raise


def make_folders(path: Path) -> None:
    """Create a folder with its parents, so that a power cut does not take it away with its files.

    Raises:
        UsageError: the disk refused.
    """
    # From the outermost on: a folder is durable when its parent's list of names is.
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            disk.make_folder(folder)
            disk.sync_folder(folder.parent)
    except OSError as error:
        explain_write_error(error, path)


# It returns for other errors, so that `except` blocks call it and then raise theirs.
def explain_write_error(
    error: BaseException | None, path: Path, needed: int | None = None, *, again: str = AGAIN
) -> None:
    """Raise a UsageError that names `path` if `error` is the disk's; return for all other errors.

    Args:
        error: what was raised while `path` was written.
        path: the file or folder as the user knows it; temporary names are not for the user.
        needed: its bytes, which the error about a full disk compares with the free ones.
        again: how the error tells the user to go on once the disk is repaired.
    """
    if not isinstance(error, OSError):
        return
    if error.errno not in NO_SPACE:
        raise UsageError(
            rule=f"{path} must be writable",
            got=error.strerror or error,
            fix=f"Choose another place, grant access or repair the disk, and {again}.",
        ) from error
    # The file's own folder may not exist yet.
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    rule = f"the disk must have room for {path}"
    got = f"{free} bytes free"
    if needed is not None:
        rule += f", {needed} bytes"
        got += f", {max(needed - free, 0)} too few"
    raise UsageError(rule=rule, got=got, fix=f"Free some space and {again}.") from error


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of the file `path`; one process at a time does.

    The file is made if it is absent, and its content is left alone. The system takes the lock back
    from a process that ends, however it ends. On a file system without locks nobody is refused.

    Args:
        path: the file; its folder must exist.
        wait: whether to wait for another process that holds the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
    """
    # "ab" neither empties the file nor needs it to exist.
    with path.open("ab") as file:
        take_lock(file.fileno(), wait=wait)
        yield


def take_lock(descriptor: int, *, wait: bool) -> bool:
    """Take the system's lock on an open file; closing the file gives it back.

    Returns:
        False where the file system has no locks.

    Raises:
        BlockingIOError: another open file holds the lock, and `wait` is False.
    """
    if fcntl is None:
        return False
    # flock, not lockf: it belongs to the open file, so two holders inside one process are refused
    # like two processes, and closing another descriptor of the file does not lose it.
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        # BlockingIOError passes through here as well.
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def user_cache(name: str) -> Path:
    """The folder of what is kept for this user under a name: ~/.cache/glot-jax/NAME.

    $GLOT_JAX_CACHE is another place than ~/.cache/glot-jax.
    """
    given = os.environ.get("GLOT_JAX_CACHE")
    if given:
        return Path(given).expanduser() / name
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "glot-jax" / name


def make_private(folder: Path, noun: str) -> None:
    """Create a folder that its user alone may read, or make it one.

    Args:
        folder: the folder.
        noun: what it is, for messages: "the cache of token states".

    Raises:
        UsageError: the disk refused, or the folder is another user's.
    """
    make_folders(folder)
    if stat.S_IMODE(folder.stat().st_mode) == 0o700:
        return
    try:
        folder.chmod(0o700)
    except OSError as error:
        raise UsageError(
            rule=f"{noun} must belong to its user",
            got=f"{folder}: {error.strerror}",
            fix="Choose another place: GLOT_JAX_CACHE=FOLDER.",
        ) from error


def most_bytes(variable: str, gigabytes: float) -> float:
    """The size that an environment variable allows, given there in gigabytes.

    Args:
        variable: its name.
        gigabytes: where it is not set.

    Raises:
        UsageError: it is no number.
    """
    given = os.environ.get(variable)
    try:
        size = gigabytes if given is None else float(given)
    except ValueError as error:
        raise UsageError(
            rule=f"{variable} must be a number of gigabytes",
            got=repr(given),
            fix="Give for example 20.",
        ) from error
    return size * 1e9


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        # In pieces: a shard may be larger than the memory.
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    """A name beside `path`; the suffix stays last, because libraries read the format from it."""
    # Random, so that processes which write the same file at once do not meet.
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")


def _discard(path: Path) -> None:
    """Remove what was written as far as the disk lets us: the first error is the one to report."""
    with contextlib.suppress(OSError):
        disk.remove(path)


def _sync_file(path: Path) -> None:
    """Make a file that a library wrote and closed survive a power cut."""
    file = os.open(path, os.O_RDONLY)
    try:
        disk.sync(file)
    finally:
        disk.close(file)


def sync_tree(folder: Path) -> None:
    """Make a folder with all it holds survive a power cut."""
    for path in folder.iterdir():
        # What a link leads to is not part of this folder.
        if path.is_symlink():
            continue
        if path.is_dir():
            sync_tree(path)
        else:
            _sync_file(path)
    disk.sync_folder(folder)


def is_new_folder(out: Path) -> bool:
    """Whether nothing is there yet: no file, and no folder that holds anything."""
    if not out.exists():
        return True
    return out.is_dir() and not any(out.iterdir())


def require_empty(out: Path, *, rule: str, fix: str) -> None:
    """Require that a folder does not exist or holds nothing: nothing can then be overwritten.

    Args:
        out: the folder.
        rule: what must hold, for the message.
        fix: what to do, for the message.

    Raises:
        UsageError: It holds something, or is a file.
    """
    if not is_new_folder(out):
        raise UsageError(rule=rule, got=f"{out}, which exists", fix=fix)

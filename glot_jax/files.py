"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import secrets
import shutil
from pathlib import Path

import numpy as np

from glot_jax import disk
from glot_jax.errors import UsageError, require

TEMPORARY = ".tmp-"
"""Prefix of everything that is being written; never part of a finished store."""


def file_sha256(path: Path) -> str:
    """sha256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def npy_bytes(array: np.ndarray) -> bytes:
    """The .npy file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def refuse_link(path: Path) -> None:
    """What is written belongs to the store alone: writing to a symbolic link, whose target others
    may use, is a UsageError.
    """
    require(
        not path.is_symlink(),
        "a store is not written through symbolic links",
        path,
        "Put the file or folder itself there (`dvc unprotect`, `git annex unlock`), or choose"
        " another --out.",
    )


def write_atomically(path: Path, data: bytes, *, exclusively: bool = False) -> bool:
    """Put `data` at `path`: whole and on disk, or not there at all. Several processes may write the
    same file at once.

    `exclusively`: only where there is no file yet. Returns whether it was written.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        file = disk.create(temporary)
        try:
            disk.write(file, data, 0)
            disk.sync(file)
        finally:
            disk.close(file)
        if not exclusively:
            disk.rename(temporary, path)
        else:
            try:
                disk.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                disk.remove(temporary)
        disk.sync_folder(path.parent)
    except BaseException as error:
        disk.remove(temporary)
        explain_write_error(error, path, len(data))
        raise
    return True


def make_folders(path: Path) -> None:
    """Create a folder with its parents, so that a power cut does not take it away with all that was
    stored in it.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            disk.make_folder(folder)
            disk.sync_folder(folder.parent)
    except OSError as error:
        explain_write_error(error, path, 0)


def explain_write_error(error: BaseException | None, path: Path, needed: int) -> None:
    """Raise a UsageError that names `path` if `error` is the disk's; of a full disk also the bytes
    that are missing.
    """
    if not isinstance(error, OSError):
        return
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise UsageError(
            f"{path} can be written",
            error,
            "Repair the disk and run the same command again: finished shards are kept.",
        ) from error
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    raise UsageError(
        f"the disk has room for {path}, {needed} bytes",
        f"{free} bytes free, {max(needed - free, 0)} too few",
        "Free some space and run the same command again: finished shards are kept.",
    ) from error

"""Every change that is made to the disk, one function each.

Called as `disk.write(...)`, through the module: tests replace the functions to make each call fail,
tear or come last.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def make_folder(path: Path) -> None:
    """Create a folder inside one that exists; nothing happens if it is there already."""
    path.mkdir(exist_ok=True)


def create(path: Path) -> int:
    """Open a new, empty file for writing, and return its descriptor."""
    # The user's umask takes away what others may not do, as for the files of other programs.
    return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)


def write(file: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` (bytes or a contiguous array's buffer) from byte `at` on.

    Positioned: threads may write different parts of one file at once.
    """
    view = memoryview(data)
    if not view.nbytes:
        # An empty buffer of several dimensions cannot be cast.
        return
    # Bytes, whatever the array holds: slices of the view are then what pwrite counts.
    view = view.cast("B")
    while view.nbytes:
        # The system may take less than it is given: more than 2 GiB at once, or what is left of the
        # disk.
        written = os.pwrite(file, view, at)
        view = view[written:]
        at += written


def sync(file: int) -> None:
    """Make a file's content survive a power cut."""
    os.fsync(file)


def close(file: int) -> None:
    """Close a file; some disks report only here that earlier writes failed."""
    os.close(file)


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`, at once; a file that has it is replaced."""
    # Not os.rename, which on Windows does not replace.
    os.replace(source, target)


def link(source: Path, target: Path) -> None:
    """Give `source` a second name, at once; FileExistsError where it is taken."""
    os.link(source, target)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    # A name is an entry of its folder, and the folder has to be synced for it.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds; nothing happens if it is not there."""
    # Of a link to a folder the link goes, never what it leads to.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

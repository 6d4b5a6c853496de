"""Every change that writing a store makes to the disk, one function each.

Called as `disk.write(...)`, through the module: tests replace them to make each call fail, tear or
come last.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def make_folder(path: Path) -> None:
    """Create a folder in one that exists; one that is there is fine."""
    path.mkdir(exist_ok=True)


def create(path: Path) -> int:
    """A descriptor of a new, empty file, for writing."""
    return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)


def write(file: int, data: Any, at: int) -> None:
    """All of `data` (bytes or a contiguous array's buffer) at byte `at`."""
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else view
    while view.nbytes:
        # The system may take less than it is given: more than 2 GiB at once, or what is left of the
        # disk.
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def sync(file: int) -> None:
    """Make a file's content survive a power cut."""
    os.fsync(file)


def close(file: int) -> None:
    os.close(file)


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`, at once; a file that has it is replaced."""
    os.replace(source, target)


def link(source: Path, target: Path) -> None:
    """Give `source` a second name, at once; FileExistsError where it is taken."""
    os.link(source, target)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """A file, or a folder with all it holds; what is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

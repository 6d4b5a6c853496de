"""Whether a folder is its user's alone: what is read from it may be run."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_ROOT = 0
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFolderError(Exception):
    """Somebody else might put a program into the folder; the text says which folder and why."""


def trusted_folder(folder: Path) -> Path:
    """Make a folder that only its user can write to, and return its absolute path.

    From the home downwards every folder must be the user's own, not writable by group or others,
    and no symbolic link. Outside the home that is asked of the folder itself, and of its parents
    that they are the user's or root's, no links, and not writable by others unless they are sticky
    like /tmp: who may write to a parent may put another folder in the place of this one.

    Folders that are missing are made with mode 0700.

    Raises:
        UntrustedFolderError: A folder is not so, or cannot be made.
    """
    if not hasattr(os, "geteuid"):
        raise UntrustedFolderError("this system does not tell whose a folder is")
    # Without following links, which `Path.resolve` would.
    folder = Path(os.path.abspath(folder))
    home = _home()
    try:
        if home is not None and folder.is_relative_to(home):
            # What leads to the home is the administrator's choice, links and all.
            real = Path(os.path.realpath(home))
            return _checked(real, folder.relative_to(home), in_home=True)
        top = Path(folder.anchor)
        return _checked(top, folder.relative_to(top), in_home=False)
    except OSError as error:
        raise UntrustedFolderError(f"{error.filename}: {error.strerror}") from error


def require_own(folder: Path) -> None:
    """Require that a folder is its user's own, which nobody else may write to, and no link.

    Raises:
        UntrustedFolderError: It is not.
        OSError: It cannot be looked at.
    """
    facts = _facts(folder)
    if facts.st_uid != os.geteuid():
        raise UntrustedFolderError(f"{folder} belongs to another user")
    _require_unwritable(folder, facts)


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        # A user without an entry in the system's list.
        return None


def _checked(top: Path, below: Path, *, in_home: bool) -> Path:
    """Go down from a folder to another, making what is missing; returns the last."""
    folder = top
    _require(folder, own=in_home or not below.parts)
    for depth, name in enumerate(below.parts, start=1):
        folder = folder / name
        # Another process may be making it too.
        if not os.path.lexists(folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        is_last = depth == len(below.parts)
        _require(folder, own=in_home or is_last)
    return folder


def _require(folder: Path, *, own: bool) -> None:
    if own:
        require_own(folder)
        return
    facts = _facts(folder)
    if facts.st_uid not in (_ROOT, os.geteuid()):
        raise UntrustedFolderError(f"{folder} belongs to another user")
    # In a sticky folder nobody renames or removes what is not theirs.
    if not facts.st_mode & stat.S_ISVTX:
        _require_unwritable(folder, facts)


def _facts(folder: Path) -> os.stat_result:
    facts = os.lstat(folder)
    if stat.S_ISLNK(facts.st_mode):
        raise UntrustedFolderError(f"{folder} is a symbolic link; name the folder it leads to")
    if not stat.S_ISDIR(facts.st_mode):
        raise UntrustedFolderError(f"{folder} is not a folder")
    return facts


def _require_unwritable(folder: Path, facts: os.stat_result) -> None:
    mode = stat.S_IMODE(facts.st_mode)
    if mode & _OTHERS_MAY_WRITE:
        raise UntrustedFolderError(
            f"others may write to {folder} (mode {mode:04o}); chmod go-w {folder}"
        )

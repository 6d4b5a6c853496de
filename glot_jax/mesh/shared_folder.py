"""Whether the processes of a run see one folder, before it is used as if they did."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.files import make_folders
from glot_jax.mesh.processes import Processes

_PATIENCE = 10.0
"""Seconds in which a file must be seen elsewhere: file systems of a network keep lists a while."""


def require_shared(folder: Path, processes: Processes) -> None:
    """Require that all processes see the folder, which is made where it is missing.

    Raises:
        UsageError: a process does not see what process 0 has written.
    """
    if not processes.several:
        return
    is_new = not folder.exists()
    name = processes.from_first(f".tmp-seen-{secrets.token_hex(4)}")
    with processes.agree():
        if processes.first:
            make_folders(folder)
            (folder / name).touch()
    try:
        with processes.agree():
            _require_seen(folder, name)
    except UsageError:
        if processes.first:
            _take_away(folder, name, is_new)
        raise
    if processes.first:
        (folder / name).unlink()


def _take_away(folder: Path, name: str, is_new: bool) -> None:
    (folder / name).unlink(missing_ok=True)
    # A run that is refused leaves no folder behind.
    if is_new:
        folder.rmdir()


def _require_seen(folder: Path, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not (folder / name).exists():
        # Asked again: the list of a folder is kept for some seconds elsewhere.
        if time.monotonic() > deadline:
            raise UsageError(
                rule="the run folder must be one that all processes see",
                got=f"{folder}, without what process 0 has written there",
                fix="Choose an --out on a file system that all machines share.",
            )
        time.sleep(0.1)

"""Run folders that several processes write: what they compare, and who does what alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.mesh.processes import Processes
from glot_jax.run_folders.checkpoint_record import digest
from glot_jax.run_folders.orbax_files import Response
from glot_jax.run_folders.plain_path import plain_path
from glot_jax.run_folders.readback import LateReadback, Readback
from glot_jax.run_folders.run_log import only_writer

_GRACE = 15
"""Seconds that a save has to end in when the run ends with an error: others may not answer."""


@contextlib.contextmanager
def one_command(run: Path, processes: Processes) -> Iterator[None]:
    """Hold the right to write a run folder, for all processes of one command.

    Raises:
        UsageError: another command trains this run.
    """
    with contextlib.ExitStack() as held:
        with processes.agree():
            if processes.first:
                held.enter_context(only_writer(run))
        yield


def require_plain(folder: Path) -> None:
    """Require a folder whose name orbax takes as it is.

    Orbax compares the paths of the processes, and each would have a link of its own.

    Raises:
        UsageError: its name has one of the characters that it takes for a pattern.
    """
    with plain_path(folder) as plain:
        if plain != folder:
            raise UsageError(
                rule="the run folder of several processes must have a path without * ? [ ] \\",
                got=folder,
                fix="Choose another --out.",
            )


def agreed_record(
    processes: Processes,
    step: int,
    values: dict[str, Any],
) -> dict[str, Any]:
    """What is saved of a record, after the states of all processes were compared.

    Args:
        processes: of the run.
        step: of the state.
        values: of this process's record; its arrays have their hashes.

    Raises:
        UsageError: the states are not the same.
    """
    if not processes.several:
        return values
    own = digest(values["arrays"])
    digests = processes.gather(own)
    different = []
    for number, other in enumerate(digests):
        # Found here, and not in the scores of a run that has gone on.
        if other != digests[0]:
            different.append(number)
    with processes.same_everywhere():
        if different:
            raise UsageError(
                rule="every process of a run must have the same state",
                got=f"another one in process {different[0]} after step {step}",
                fix="A machine computes what the others do not; the last checkpoint, which all"
                " agreed on, is kept.",
            )
    # Clocks differ, and one record is written.
    return processes.from_first(values)


def readback_of(processes: Processes, read: Callable[[], None]) -> Readback | LateReadback:
    """What reads the first checkpoint of a run back."""
    if processes.several:
        return LateReadback(read)
    return Readback(read)


def agreed_reason(processes: Processes, reason: str | None) -> str | None:
    """What is wrong with a checkpoint, whichever process has seen it."""
    if not processes.several:
        return reason
    reasons = processes.gather(reason)
    for number, other in enumerate(reasons):
        if other is not None:
            return f"{other} (process {number})"
    return None


def wait_a_while(response: Response) -> None:
    """Let a save end, without a word: the run has ended with something else."""

    def wait() -> None:
        with contextlib.suppress(Exception):
            response.result()

    # Never for longer: another process may be gone, and the save then waits for it.
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(_GRACE)

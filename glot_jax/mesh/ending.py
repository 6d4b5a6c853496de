"""How a process ends that others wait for."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

from glot_jax.errors import UsageError
from glot_jax.mesh.processes import Processes

_LOST = ("Gloo", "NCCL", "coordination service", "heartbeat", "waiting at barrier")
"""Words of the errors by which a collective, or a save of all, says that somebody is missing."""


@contextlib.contextmanager
def ending_together(processes: Processes, again: str) -> Iterator[None]:
    """A block whose errors end the process at once, if it has others that wait for it.

    An exception would run into the barrier that ends a distributed program, and wait there until
    the others, who wait for this process, have been given up. What all have agreed upon is raised
    as ever: they end together.

    Args:
        processes: of the run.
        again: the command that goes on with the run, for messages.
    """
    if not processes.several:
        yield
        return
    try:
        yield
    except SystemExit:
        # SIGTERM, which stops all of them after the same step.
        raise
    except KeyboardInterrupt as stop:
        # With a text: they have agreed to stop. Without: a second Ctrl-C, of one process.
        if stop.args:
            raise
        _end(130)
    except Exception as error:
        if processes.is_agreed(error):
            raise
        # First: what could not be read or written because somebody is gone is not the disk's fault.
        reason = _loss(error)
        if reason is not None:
            print(
                f"error: process {processes.number} of {processes.count} has lost another one"
                f" ({reason}); when all have ended, go on with {again}",
                file=sys.stderr,
            )
            _end(1)
        if isinstance(error, UsageError):
            print(f"error: {error}", file=sys.stderr)
            _end(2)
        traceback.print_exc()
        _end(1)


def _loss(error: BaseException | None) -> str | None:
    """The first line of an error that another process is the reason of, or of its cause."""
    while error is not None:
        text = str(error).strip()
        if any(word in text for word in _LOST):
            return text.splitlines()[0]
        error = error.__cause__ or error.__context__
    return None


def _end(code: int) -> None:
    # Python's own end would wait for the others; what was said is said.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)

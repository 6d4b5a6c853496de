"""SIGTERM and Ctrl-C while a run trains: acted upon where a checkpoint can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from glot_jax.mesh.processes import ALONE, Processes


class StopSignals:
    """Within its `with` block SIGTERM and SIGINT are only noted, in `received`.

    A second signal does what it would have done outside. Python lets only the main thread handle
    signals: in another one nothing is noted. A signal that is ignored (Ctrl-C in a background job
    of a script) stays so.

    Of several processes all stop after the same step, whichever of them was told: `received` is
    then what they have agreed upon. SIGTERM is JAX's, which has a handler of its own for it.

    Args:
        processes: of the run.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self.processes = processes
        self.received: signal.Signals | None = None
        self.noted: signal.Signals | None = None
        """What this process was told."""
        self._looks = 0
        self._before: dict[signal.Signals, Any] = {}
        self._endings: list[BaseException] = []

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        numbers = [signal.SIGINT]
        if not self.processes.several:
            numbers.append(signal.SIGTERM)
        for number in numbers:
            # None: a handler outside Python, which could not be put back afterwards.
            if signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.noted = signal.Signals(number)
        if not self.processes.several:
            self.received = self.noted
        # Whoever sends a second one does not want to wait.
        self._put_back()

    def _put_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def look(self) -> bool:
        """Whether to stop; asked by all processes in step, after every dispatch."""
        if self.processes.several and self.received is None:
            from jax.experimental import multihost_utils

            # Counted by itself: JAX wants every number, and a dispatch may have many steps.
            self._looks += 1
            if multihost_utils.reached_preemption_sync_point(self._looks):
                self.received = signal.SIGTERM
        return self.received is not None

    def hear(self, noted: Sequence[int | None]) -> None:
        """Take for received what any of the processes has noted, a number each or None."""
        for number in noted:
            if number is not None and self.received is None:
                self.received = signal.Signals(number)

    def ending(self, message: str) -> BaseException:
        """What to raise once everything is saved.

        Returns:
            SystemExit(143) for SIGTERM, KeyboardInterrupt (exit code 130) for SIGINT.
        """
        # Python itself turns it into 130.
        error: BaseException = KeyboardInterrupt(message)
        if self.received is signal.SIGTERM:
            # The exit code that a shell reports for a process which the signal killed.
            error = SystemExit(128 + signal.SIGTERM)
        self._endings.append(error)
        return error

    def made(self, error: BaseException) -> bool:
        """Whether this is an error that `ending` gave: a second signal raises one of its own."""
        return error in self._endings

    def end_finished(self, run: Path, say: Callable[[str], None]) -> None:
        """End a process whose run was finished all the same, if a signal came.

        Raises:
            KeyboardInterrupt: SIGINT was received.
            SystemExit: SIGTERM was received.
        """
        if self.received is None:
            return
        # It came during the last evaluation: whoever called must stop all the same.
        message = f"{self.received.name}: {run} is finished"
        say(message)
        raise self.ending(message)

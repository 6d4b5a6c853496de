"""SIGTERM and Ctrl-C while a run trains: acted upon where a checkpoint can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """Within its `with` block SIGTERM and SIGINT are only noted, in `received`.

    A second signal does what it would have done outside. Python lets only the main thread handle
    signals: in another one nothing is noted. A signal that is ignored (Ctrl-C in a background job
    of a script) stays so.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT, signal.SIGTERM):
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
        self.received = signal.Signals(number)
        # Whoever sends a second one does not want to wait.
        self._put_back()

    def _put_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def ending(self, message: str) -> BaseException:
        """What to raise once everything is saved.

        Returns:
            SystemExit(143) for SIGTERM, KeyboardInterrupt (exit code 130) for SIGINT.
        """
        if self.received is signal.SIGTERM:
            # The exit code that a shell reports for a process which the signal killed.
            return SystemExit(128 + signal.SIGTERM)
        # Python itself turns it into 130.
        return KeyboardInterrupt(message)

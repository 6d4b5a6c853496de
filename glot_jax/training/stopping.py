"""SIGTERM and Ctrl-C while a run trains: noted at once, acted upon where a checkpoint can be
saved.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """Between `with` and its end SIGTERM and SIGINT are only noted, in `received`; a second one
    does what it did before.

    Python lets the main thread alone handle signals: in another one this notes nothing. A signal
    that is ignored (Ctrl-C in a background job of a script) stays so.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None: somebody outside Python handles it, whom nobody could put back afterwards.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._put_back()

    def _put_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def ending(self, message: str) -> BaseException:
        """What to raise once everything is saved:

        KeyboardInterrupt (exit code 130) or SystemExit(143).
        """
        return (
            SystemExit(128 + signal.SIGTERM)
            if self.received is signal.SIGTERM
            else KeyboardInterrupt(message)
        )

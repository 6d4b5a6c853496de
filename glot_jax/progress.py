"""Lines of progress for logs: where there is no terminal there is no bar to watch."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 30.0
"""Seconds between two lines, at least."""


class ProgressLines:
    """Says how far a long job is, at most once in EVERY seconds.

    Nothing is said of what ends sooner, so that a short job's log stays short.

    Args:
        say: takes a line.
        clock: seconds that only go forward; default: the system's.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] | None = None):
        self._say = say
        self._clock = clock or time.monotonic
        self._begun = self._said = self._clock()
        self._before = 0.0

    def begin(self, done: float) -> None:
        """Count time from now; `done` was done before."""
        self._begun = self._said = self._clock()
        self._before = done

    def update(self, done: float, total: float, line: Callable[[], str]) -> None:
        """Say a line, if it is time.

        Args:
            done: of `total`, in any unit.
            total: known or estimated.
            line: what is said; share and time left are added.
        """
        now = self._clock()
        if now - self._said < EVERY:
            return
        self._said = now
        # An estimated total may turn out too small.
        share = min(1.0, done / total) if total else 1.0
        parts = [line(), f"{share:.0%}"]
        passed = done - self._before
        # Nothing is known of the time that is left before something was done.
        if passed > 0 and share < 1:
            left = (now - self._begun) * (total - done) / passed
            parts.append(f"{duration(left)} left")
        self._say(", ".join(parts))


def duration(seconds: float) -> str:
    """Seconds for people: 40 s, 3 min, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"

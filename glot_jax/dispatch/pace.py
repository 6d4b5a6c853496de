"""How many steps are handed over at once, and how many wait for the device."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

from jax import Array

MOST = 64
"""Steps of one dispatch at most: far more than it takes for the host's share to vanish."""
_ANSWER = 0.5
"""Seconds that dispatched steps may take: whoever presses Ctrl-C waits for them."""


class _Dispatch(NamedTuple):
    steps: int
    result: Array


class Pace:
    """Measures steps while they run, so that neither the host nor a person waits for long.

    It changes which steps are dispatched together, and with that no number.
    """

    def __init__(self) -> None:
        self._allowed = 1
        self._waiting: deque[_Dispatch] = deque()
        self._idle_since = time.perf_counter()

    @property
    def steps(self) -> int:
        """Steps that the next dispatch may have."""
        # Half of what may wait: while one dispatch runs, the next one stands behind it.
        return min(MOST, max(1, self._allowed // 2))

    def dispatched(self, steps: int, result: Array) -> None:
        """Wait until no more steps are under way than are allowed.

        Args:
            steps: of the dispatch that was just made.
            result: one of its results.
        """
        self._waiting.append(_Dispatch(steps, result))
        # With the next one they are as many as are allowed.
        while sum(dispatch.steps for dispatch in self._waiting) > self._allowed - self.steps:
            first = self._waiting.popleft()
            first.result.block_until_ready()
            now = time.perf_counter()
            seconds = (now - self._idle_since) / first.steps
            self._idle_since = now
            self._allowed = min(2 * MOST, max(1, int(_ANSWER / max(seconds, 1e-9))))

    def restart(self) -> None:
        """Count no time from before now: something else ran, such as a compiler."""
        self._idle_since = time.perf_counter()

"""Clocks of calls on a device.

Medians and quartiles; each measurement ends when the device is done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

_SHORTEST_MEASUREMENT = 0.02  # seconds; shorter calls are measured several at a time


class Timing(NamedTuple):
    """Milliseconds of one warm call."""

    median_ms: float
    spread_ms: tuple[float, float]
    """Quartiles [25 %, 75 %] over the repeats."""


def time_throughput(call: Callable[[], Any], repeats: int) -> Timing:
    """Time calls that follow one another without waiting, as a training loop makes them.

    Args:
        call: returns arrays; the last call of each measurement is waited for.
        repeats: measurements; calls that are shorter than 20 ms are several in each.
    """
    # The first call compiles, the second finds the memory that the first one left.
    for _ in range(2):
        jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    # The clock may not have moved at all.
    passed = max(time.perf_counter() - begin, 1e-9)
    calls = max(1, round(_SHORTEST_MEASUREMENT / passed))
    times = []
    for _ in range(repeats):
        result = None
        # One clock for all of them: reading it takes as long as a short call.
        begin = time.perf_counter()
        for _ in range(calls):
            result = call()
        # Only the last one: a device finishes its calls in the order in which they came.
        jax.block_until_ready(result)
        passed = time.perf_counter() - begin
        times.append(1000 * passed / calls)
    # `quantiles` refuses a single value.
    if repeats == 1:
        (only,) = times
        return Timing(only, (only, only))
    # Inclusive: a quartile of a few times must not lie beyond all of them.
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(median, (low, high))


def time_latency(call: Callable[[], Any], repeats: int) -> Timing:
    """Time calls each of which is waited for.

    That is what one batch takes, not the reciprocal of a throughput.

    Args: as `time_throughput`.
    """
    return time_throughput(lambda: jax.block_until_ready(call()), repeats)

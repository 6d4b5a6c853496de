"""Clocks: how often a call is made, and what is reported of it."""

from __future__ import annotations

import time

import jax.numpy as jnp
import pytest

from glot_jax.profiling.timing import time_latency, time_throughput


@pytest.mark.parametrize("clock", [time_throughput, time_latency])
def test_the_median_lies_between_the_quartiles(clock):
    timing = clock(lambda: jnp.ones(4), 5)
    low, high = timing.spread_ms
    assert 0 < low <= timing.median_ms <= high


def test_one_measurement_has_no_spread():
    timing = time_throughput(lambda: jnp.ones(4), 1)
    assert timing.spread_ms == (timing.median_ms, timing.median_ms)


def test_a_long_call_is_measured_once_each_time():
    calls = []

    def call():
        calls.append(None)
        time.sleep(0.03)
        return jnp.zeros(())

    timing = time_throughput(call, 2)
    # Two to warm up, one to see how long it takes, and one for each measurement.
    assert len(calls) == 2 + 1 + 2
    assert timing.median_ms >= 30

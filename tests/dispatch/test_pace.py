"""The pace of dispatches: never more under way than a person waits for, never none."""

from __future__ import annotations

import types
from typing import cast

import pytest
from jax import Array

from glot_jax.dispatch import pace as pace_module
from glot_jax.dispatch.pace import MOST, Pace


class Device:
    """A clock that moves when somebody waits for a dispatch."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.now = 0.0
        self.behind = 0
        self.longest = 0.0

    def result(self, steps: int) -> Array:
        self.behind += steps
        self.longest = max(self.longest, self.behind * self.seconds)

        def block() -> None:
            self.now += steps * self.seconds
            self.behind -= steps

        return cast("Array", types.SimpleNamespace(block_until_ready=block))


@pytest.mark.parametrize("seconds", [2.0, 0.1, 1e-3, 1e-6])
def test_what_is_under_way_takes_half_a_second_at_most(monkeypatch, seconds):
    device = Device(seconds)
    monkeypatch.setattr(pace_module, "time", types.SimpleNamespace(perf_counter=lambda: device.now))
    pace = Pace()
    sizes = []
    for _ in range(50):
        steps = pace.steps
        assert 1 <= steps <= MOST
        sizes.append(steps)
        pace.dispatched(steps, device.result(steps))
    # Two slow steps: one that runs and one that stands behind it.
    assert device.longest <= max(0.5, 2 * seconds) + 1e-9
    if seconds < 1e-3:
        assert sizes[-1] == MOST, "the host's share would not vanish"


def test_time_in_which_something_else_ran_is_not_counted(monkeypatch):
    device = Device(1e-3)
    monkeypatch.setattr(pace_module, "time", types.SimpleNamespace(perf_counter=lambda: device.now))
    pace = Pace()
    device.now += 60  # a compiler
    pace.restart()
    for _ in range(3):
        pace.dispatched(pace.steps, device.result(pace.steps))
    assert pace.steps == MOST

"""Dispatches of one step each, for tests that stop a run at a certain step."""

from __future__ import annotations

import pytest

from glot_jax.dispatch.pace import Pace
from glot_jax.training import advance, steps


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dispatch every training step and every evaluated batch by itself."""
    monkeypatch.setattr(Pace, "steps", 1)
    monkeypatch.setattr(advance, "JUDGED_TOGETHER", 1)


def dying_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Raise KeyboardInterrupt where training step number `step`, from 0, would be dispatched."""
    one_at_a_time(monkeypatch)
    original = steps.Steps.train_block
    done = []

    def dying(self, state, block):
        if len(done) == step:
            raise KeyboardInterrupt
        done.append(1)
        return original(self, state, block)

    monkeypatch.setattr(steps.Steps, "train_block", dying)

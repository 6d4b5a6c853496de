"""Whether processes are about to compute the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes_in_threads import run_together

from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.mesh import alike
from glot_jax.mesh.alike import require_alike
from glot_jax.mesh.processes import Processes

PLAN = {"bounds": [12], "steps": 5}


def compared(monkeypatch, second: dict) -> list:
    """What two processes say of each other, the second of which has something else."""

    def work(own: Processes) -> None:
        has: dict = {"lr": "runs/a", "store": "abc", "plan": PLAN}
        if own.number == 1:
            has |= second
        # Each machine has the store elsewhere.
        config = TrainConfig(store=Path(f"store-{own.number}"), out=Path(has["lr"]))
        require_alike(own, config, has["store"], {"train": has["plan"]})

    return run_together(monkeypatch, 2, work)


def test_equal_processes_go_on(monkeypatch):
    assert compared(monkeypatch, {}) == [None, None]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"store": "xyz"}, "store: 'abc' -> 'xyz'"),
        ({"lr": "runs/b"}, r"config.out: '.*/runs/a' -> '.*/runs/b'"),
        ({"plan": PLAN | {"steps": 6}}, "plans.train.steps: 5 -> 6"),
    ],
)
def test_what_differs_is_named(monkeypatch, second, message):
    for error in compared(monkeypatch, second):
        assert isinstance(error, UsageError)
        assert error.rule.startswith("all processes of a run must have the same")
        with pytest.raises(UsageError, match=f"-> process 1 on .*: {message}"):
            raise error


def test_versions_are_compared(monkeypatch):
    versions = iter([{"jax": "1"}, {"jax": "2"}])
    monkeypatch.setattr(alike, "versions", lambda: next(versions))
    for error in compared(monkeypatch, {}):
        assert "versions.jax: '" in str(error)
    monkeypatch.undo()
    assert {"glot-jax", "jaxlib", "device", "jax_threefry_partitionable"} <= set(alike.versions())

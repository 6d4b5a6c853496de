"""What a run must be like to be divided among devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from glot_jax.config.train import GraphConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.mesh.device_mesh import ONE, Mesh
from glot_jax.mesh.fitting import require_fit

CONFIG = TrainConfig(store=Path("store"), out=Path("run"), batch_size=12, eval_batch_size=24)


class Three(Mesh):
    """Three devices as far as rows are concerned."""

    def __init__(self):
        super().__init__()
        self.count = 3


def test_one_device_takes_everything():
    sparse = dataclasses.replace(CONFIG, graph=GraphConfig(backend="sparse"), batch_size=7)
    require_fit(sparse, ONE)
    require_fit(CONFIG, Three())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch_size": 32},
            "--batch-size must be a multiple of the 3 devices.*got 32. Give --batch-size 30 or 33",
        ),
        ({"batch_size": 2}, "got 2. Give --batch-size 3."),
        ({"eval_batch_size": 64}, "--eval-batch-size 63 or 66"),
        ({"graph": GraphConfig(backend="sparse")}, "got --backend sparse with 3 devices"),
        ({"graph": GraphConfig(edge_budget=64)}, "got --edge-budget 64 with 3 devices"),
    ],
)
def test_what_three_devices_cannot_divide(changes, message):
    with pytest.raises(UsageError, match=message):
        require_fit(dataclasses.replace(CONFIG, **changes), Three())

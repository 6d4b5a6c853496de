"""Optimizers and their schedules."""

from __future__ import annotations

from typing import cast

import jax
import numpy as np
import pytest

from glot_jax.config.train import OptimizerConfig
from glot_jax.training.optimizer import build_optimizer, build_schedule


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_weight_decay_leaves_threshold_and_layer_shares_alone(optimizer):
    tree = {
        "stem": {"tau": np.float32(0.6), "layer_scores": np.ones(2, np.float32)},
        "head": {"kernel": np.ones(3, np.float32)},
    }
    settings = OptimizerConfig(optimizer=optimizer, weight_decay=0.1, lr=0.1)
    update = build_optimizer(settings, build_schedule(settings, 1, 10))
    zeros = jax.tree.map(np.zeros_like, tree)
    updates, _ = update.update(zeros, update.init(tree), tree)
    moved = cast(dict[str, dict[str, jax.Array]], updates)
    assert float(moved["stem"]["tau"]) == 0
    assert np.all(moved["stem"]["layer_scores"] == 0)
    assert np.all(np.asarray(moved["head"]["kernel"]) < 0)

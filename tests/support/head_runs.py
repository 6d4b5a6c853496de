"""Small runs of a GLOT head on synthetic stores: two epochs of five steps, one bucket."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np

from glot_jax.config.json import from_json
from glot_jax.config.train import (
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_log import Display
from glot_jax.training import train
from glot_jax.training.prepare import prepare
from glot_jax.training.session import saved_part
from support.synthetic_stores import CLASSES, PAIRS, SCORE, SCORES, make_store
from support.typed import present


def config(store: Path, out: Path, **changes) -> TrainConfig:
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "eval_batch_size": 8,
        "buckets": 1,
        "log_every": 2,
        "pooler": PoolerConfig(hidden_dim=8, scorer_dim=8),
        "optimizer": OptimizerConfig(lr=1e-2),
        **changes,
    }
    return TrainConfig(store=store, out=out, **settings)


def run(store: Path, out: Path, **changes) -> dict:
    return train(config(store, out, **changes), quiet=True)


def arrays(run: Path) -> list[np.ndarray]:
    """Every array of the latest checkpoint."""
    like = prepare(
        from_json(TrainConfig, json.loads((run / "config.json").read_text())["config"]),
        Display(quiet=True),
    ).state
    with Checkpoints(run) as checkpoints:
        state = checkpoints.load(present(checkpoints.latest_step), saved_part(like))
    state["key"] = jax.random.key_data(state["key"])
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def make_stores(folder: Path) -> dict[str, Path]:
    """A store of each kind of task whose rows are judged one by one."""
    specs = {"classes": CLASSES, "pairs": PAIRS, "scores": SCORES, "score": SCORE}
    return {name: make_store(folder / name, spec) for name, spec in specs.items()}

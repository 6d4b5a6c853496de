"""Small quick training runs, and what it means that two of them are the same run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glot_jax.config.json import from_json
from glot_jax.config.train import OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_log import Display
from glot_jax.training import train
from glot_jax.training.prepare import prepare
from glot_jax.training.session import saved_part

EVERY_STEP = 1e-9
"""checkpoint_minutes of a run that saves after every step."""


def config(store: Path, out: Path, **changes: object) -> TrainConfig:
    """Three epochs of five steps on the stores of `make_store`, with two executables.

    A line every third step and at each epoch's end.
    """
    settings = {
        "epochs": 3,
        "batch_size": 8,
        "eval_batch_size": 16,
        "buckets": 1,
        "log_every": 3,
        "checkpoint_minutes": 0,
        "pooler": PoolerConfig(pooler="mean"),
        "optimizer": OptimizerConfig(lr=1e-1),
        **changes,
    }
    return TrainConfig(store=store, out=out, **settings)


def saved_config(out: Path) -> TrainConfig:
    """The settings of the run that lies in `out`, wherever it was made."""
    return dataclasses.replace(
        from_json(TrainConfig, json.loads((out / "config.json").read_text())["config"]), out=out
    )


def resume(out: Path, **changes: object) -> dict[str, Any]:
    """`train.py --resume out`, with other settings where that is allowed."""
    return train(dataclasses.replace(saved_config(out), **changes), resume=True, quiet=True)


def like(out: Path) -> dict[str, Any]:
    """What a checkpoint holds of a training state of the run's shapes."""
    return saved_part(prepare(saved_config(out), Display(quiet=True)).state)


def arrays(state: dict[str, Any]) -> list[np.ndarray]:
    return [
        np.asarray(leaf)
        for leaf in jax.tree.leaves({**state, "key": jax.random.key_data(state["key"])})
    ]


def assert_equal_states(one: dict[str, Any], other: dict[str, Any]) -> None:
    for a, b in zip(arrays(one), arrays(other), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def assert_same_run(one: Path, other: Path) -> None:
    """Two runs have the same bytes of metrics.jsonl, the same saved arrays and equal scores.

    The latest and the best step are the same, every array of them bit for bit.
    """
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    shape = like(one)
    with Checkpoints(one) as ours, Checkpoints(other) as theirs:
        assert (ours.latest_step, ours.best_step) == (theirs.latest_step, theirs.best_step)
        for step in {ours.latest_step, ours.best_step}:
            assert step is not None
            assert_equal_states(ours.load(step, shape), theirs.load(step, shape))
    scores = [json.loads((run / "summary.json").read_text())["validation"] for run in (one, other)]
    assert scores[0] == scores[1]

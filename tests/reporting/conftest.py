"""Runs that the tests of reports share.

All of them belong to the group `report`, so that they are trained once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from support.synthetic_stores import CLASSES, SCORES, make_store

from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.training import train, train_seeds

VARIANTS = {
    "mean": ("mean", 0.6),
    "adapool": ("adapool", 0.6),
    "glot": ("glot", 0.6),
    "tight": ("glot", 0.9),
}
"""Folder -> (pooler, tau); those of glot have two seeds, the others one."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/classes with four variants and two splits, runs/scores with three and one split."""
    folder = tmp_path_factory.mktemp("report")
    rows = {"train": 24, "validation": 24, "test": 24}
    classes = make_store(folder / "stores" / "classes", CLASSES, rows=rows)
    for label in VARIANTS:
        train_variant(classes, folder / "runs" / "classes" / label, "holdout")
    scores = make_store(folder / "stores" / "scores", SCORES, rows={"train": 24, "validation": 12})
    for label in ("mean", "adapool", "glot"):
        train_variant(scores, folder / "runs" / "scores" / label, "validation")
    return folder


def train_variant(store: Path, out: Path, select_on: Literal["holdout", "validation"]) -> None:
    pooler, tau = VARIANTS[out.name]
    config = TrainConfig(
        store=store,
        out=out,
        epochs=2,
        batch_size=8,
        buckets=1,
        graph=GraphConfig(tau=tau),
        pooler=PoolerConfig(pooler=pooler, hidden_dim=8, num_layers=1),
        objective=ObjectiveConfig(select_on=select_on),
    )
    if pooler == "glot":
        train_seeds(config, [1, 2], quiet=True)
    else:
        train(config, quiet=True)

"""A trained run, loaded again."""

from __future__ import annotations

import numpy as np
import pytest
from support.head_runs import config, run
from support.synthetic_stores import CLASSES, make_store

from glot_jax.config.train import (
    OptimizerConfig,
)
from glot_jax.errors import UsageError
from glot_jax.objectives import evaluate
from glot_jax.run_folders.run_log import Display
from glot_jax.training.evaluation import evaluate_run, load_model
from glot_jax.training.prepare import prepare


def test_best_and_latest_reload_with_their_scores(stores, tmp_path):
    summary = run(stores["classes"], tmp_path / "run", epochs=6, optimizer=OptimizerConfig(lr=5e-2))
    for which in ("best", "last"):
        again = evaluate_run(tmp_path / "run", checkpoint=which, quiet=True)["validation"]
        expected = {
            name: value for name, value in summary["validation"][which].items() if name != "epoch"
        }
        assert again == pytest.approx(expected, abs=1e-6)
    model = load_model(tmp_path / "run")
    prepared = prepare(config(stores["classes"], tmp_path / "x", epochs=6), Display(quiet=True))
    feed = prepared.feeds["validation"]
    outputs, labels = [], []
    for step in range(feed.plan.steps_per_epoch):
        batch = feed.batch(step)
        outputs.append(np.asarray(model(batch))[batch.row_mask])
        labels.append(batch.labels[batch.row_mask])
    scores = evaluate(np.concatenate(outputs), np.concatenate(labels), prepared.task)
    assert scores["accuracy"] == summary["validation"]["best"]["accuracy"]


def test_evaluation_refuses_a_store_that_was_made_anew(tmp_path):
    store = make_store(tmp_path / "store", CLASSES)
    run(store, tmp_path / "run", epochs=1)
    for path in sorted(store.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    make_store(tmp_path / "store", CLASSES, seed=3)
    with pytest.raises(UsageError, match="made anew since"):
        evaluate_run(tmp_path / "run", quiet=True)
    assert "validation" in evaluate_run(tmp_path / "run", store=store, quiet=True)

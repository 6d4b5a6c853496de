"""Which rows are trained on, and which are judged."""

from __future__ import annotations

from support.head_runs import config, run
from support.synthetic_stores import CLASSES, make_store

from glot_jax.config.train import (
    ObjectiveConfig,
)
from glot_jax.run_folders.run_log import Display
from glot_jax.training.prepare import prepare


def test_holdout_is_never_trained_on(stores, tmp_path):
    prepared = prepare(
        config(stores["classes"], tmp_path / "run", objective=ObjectiveConfig(select_on="holdout")),
        Display(quiet=True),
    )
    held, trained = (set(prepared.feeds[name].plan.rows.tolist()) for name in ("holdout", "train"))
    assert len(held) == 4
    assert held | trained == set(range(40))
    assert not held & trained
    summary = run(
        stores["classes"], tmp_path / "run", objective=ObjectiveConfig(select_on="holdout")
    )
    assert summary["selected_on"] == "holdout"
    assert {"holdout", "validation"} <= set(summary)


def test_without_a_validation_split_the_holdout_is_reported_as_one(tmp_path):
    store = make_store(tmp_path / "store", CLASSES, rows={"train": 40, "test": 10})
    summary = run(store, tmp_path / "run")
    assert summary["selected_on"] == "holdout"
    assert {"validation", "test"} <= set(summary)
    assert set(summary["test"]["best"]) == {"accuracy", "f1", "loss", "epoch"}


def test_last_without_a_validation_split_still_reports_a_holdout(tmp_path):
    store = make_store(tmp_path / "store", CLASSES, rows={"train": 40})
    summary = run(store, tmp_path / "run", objective=ObjectiveConfig(select_on="last"))
    assert summary["selected_on"] == "last"
    assert summary["validation"]["best"] == summary["validation"]["last"]

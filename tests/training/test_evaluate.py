"""Scores of the splits of a run, and the epoch they select."""

from __future__ import annotations

import json

import numpy as np
from support.head_runs import config, run
from support.synthetic_stores import PAIRS, SCORES, make_store

from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
)
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_log import Display
from glot_jax.training import loop
from glot_jax.training.prepare import prepare


def test_best_is_the_earliest_highest_epoch(stores, tmp_path):
    summary = run(stores["classes"], tmp_path / "run", epochs=8, optimizer=OptimizerConfig(lr=2e-2))
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    scores = [line["accuracy"] for line in lines if line["split"] == "validation"]
    assert summary["validation"]["best"]["epoch"] == scores.index(max(scores)) + 1
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.best_step == 5 * (scores.index(max(scores)) + 1)
        assert checkpoints.latest_step == 40


def test_last_selects_the_last_epoch(stores, tmp_path):
    summary = run(stores["classes"], tmp_path / "run", objective=ObjectiveConfig(select_on="last"))
    assert summary["selected_on"] == "last"
    assert summary["validation"]["best"] == summary["validation"]["last"]


def test_selection_reads_the_task_metric(stores, tmp_path):
    prepared = prepare(config(stores["scores"], tmp_path / "run"), Display(quiet=True))
    assert prepared.metric == "spearman"
    assert loop.selection_of(prepared, {"validation": {"spearman": 0.3, "pearson": 0.9}}, 0) == 0.3


def test_an_empty_text_is_a_row_with_a_finite_score(tmp_path):
    store = make_store(tmp_path / "store", PAIRS, empty_rows=[0, 3])
    for backend in ("dense", "sparse"):
        run(store, tmp_path / backend, graph=GraphConfig(backend=backend))
        lines = [
            json.loads(line)
            for line in (tmp_path / backend / "metrics.jsonl").read_text().splitlines()
        ]
        assert all(np.isfinite(line["loss"]) for line in lines)
    similar = make_store(tmp_path / "similar", SCORES, empty_rows=[0, 3])
    run(similar, tmp_path / "cosine")

"""The learning rate is chosen by the first seed on the selecting split; no run is trained twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.synthetic_stores import make_store

from glot_jax import training
from glot_jax.config.train import ObjectiveConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.experiments.tuning import SelectionTrial, select, tuned_runs
from glot_jax.training import Workspace

SCORES = {1e-3: (0.5, 0.9), 1e-2: (0.75, 0.8), 1e-1: (0.75, 0.7)}
"""Rate -> (accuracy, loss) on the holdout."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int, bool]]:
    """(rate, seed, resume) of every training that was asked for."""
    calls = []

    def train(
        config: TrainConfig, *, resume: bool, quiet: bool, workspace: Workspace
    ) -> dict[str, Any]:
        del quiet, workspace
        rate = config.optimizer.lr
        calls.append((rate, config.seed, resume))
        accuracy, loss = SCORES[rate]
        holdout = {"accuracy": accuracy, "loss": loss, "epoch": 1}
        # The reported split prefers another rate, and must not be asked.
        reported = {"accuracy": 1 - accuracy, "loss": loss, "epoch": 1}
        return {
            "task": "custom",
            "pooler": "mean",
            "store": "content",
            "selected_on": "holdout",
            "holdout": {"best": holdout, "last": holdout},
            "test": {"best": reported, "last": reported},
            "parameters": {"pooler": 0, "head": 18},
        }

    monkeypatch.setattr(training, "train", train)
    return calls


def configure(tmp_path: Path) -> Callable[[float, int], TrainConfig]:
    def make(lr: float, seed: int) -> TrainConfig:
        out = tmp_path / f"lr{lr:g}-seed{seed}"
        return TrainConfig(
            store=tmp_path / "store", out=out, seed=seed, optimizer=OptimizerConfig(lr=lr)
        )

    return make


def test_of_equal_scores_the_lower_loss_decides(trained, tmp_path):
    tuned = tuned_runs(configure(tmp_path), list(SCORES), [1, 2, 3], "accuracy", Workspace())
    assert tuned.lr == 1e-1
    assert [summary.splits["holdout"].best["loss"] for summary in tuned.summaries] == [0.7] * 3
    assert [folder.name for folder in tuned.folders] == [
        "lr0.1-seed1",
        "lr0.1-seed2",
        "lr0.1-seed3",
    ]
    assert [(rate, seed) for rate, seed, _ in trained] == [
        (1e-3, 1),
        (1e-2, 1),
        (1e-1, 1),
        (1e-1, 2),
        (1e-1, 3),
    ]


def test_a_run_that_was_begun_is_continued(trained, tmp_path):
    (tmp_path / "lr0.001-seed1").mkdir()
    (tmp_path / "lr0.001-seed1" / "config.json").write_text("{}")
    tuned_runs(configure(tmp_path), [1e-3], [1, 2], "accuracy", Workspace())
    assert trained == [(1e-3, 1, True), (1e-3, 2, False)]


def test_rate_layer_and_epoch_are_chosen_by_the_mean_of_seeds_on_their_holdouts(tmp_path):
    store = make_store(tmp_path / "store", rows={"train": 60, "validation": 20}, layers=(1, 2))

    def make(lr: float, layer: int | None, seed: int) -> TrainConfig:
        return TrainConfig(
            store=store,
            out=tmp_path / "runs" / f"{lr:g}-{layer}-{seed}",
            layer=layer,
            seed=seed,
            epochs=3,
            batch_size=8,
            buckets=1,
            pooler=PoolerConfig(pooler="mean"),
            objective=ObjectiveConfig(select_on="holdout"),
            optimizer=OptimizerConfig(lr=lr),
        )

    seeds = (101, 102)
    choice, trials = select(make, [1e-3, 1e-1], [1, 2], seeds, "accuracy", Workspace())
    assert [(trial.lr, trial.layer) for trial in trials] == [
        (1e-3, 1),
        (1e-1, 1),
        (1e-3, 2),
        (1e-1, 2),
    ]
    ranked = []
    for trial in trials:
        curves = []
        for seed in seeds:
            path = make(trial.lr, trial.layer, seed).out / "metrics.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            curves.append([line for line in lines if line["split"] == "holdout"])
        means = np.mean([[line["accuracy"] for line in curve] for curve in curves], axis=0)
        losses = np.mean([[line["loss"] for line in curve] for curve in curves], axis=0)
        assert trial.means == pytest.approx(tuple(means))
        for epoch in range(3):
            ranked.append((means[epoch], -losses[epoch], -epoch, trial))
    score, _, epoch, best = max(ranked, key=lambda entry: entry[:3])
    expected = (best.lr, best.layer, 1 - epoch)
    assert (choice.lr, choice.layer, choice.epochs) == expected
    assert choice.score == pytest.approx(score)
    # A reported run: all training rows, to that epoch.
    reported = choice.applied(make(1e-3, None, 1))
    assert (reported.optimizer.lr, reported.layer, reported.epochs) == expected
    assert reported.objective.select_on == "last"


def test_of_equal_trials_the_first_and_of_equal_epochs_the_earlier_is_chosen():
    trial = SelectionTrial(1e-3, None, (0.5, 0.75, 0.75), (0.9, 0.5, 0.5))
    assert trial.best() == (0.75, -0.5, -2)
    lower = SelectionTrial(1e-2, None, (0.75,), (0.4,))
    assert max([trial, lower], key=SelectionTrial.best) is lower

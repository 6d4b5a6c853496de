"""Scores with intervals, and why some have none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_stores import CLASSES, make_store
from support.typed import present

from glot_jax.config.train import OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.reporting.comparison import Comparison, compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.variant_scores import score_variants
from glot_jax.training import train_seeds

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


def only_comparison(*folders: Path) -> Comparison:
    runs, _ = find_runs(folders)
    (comparison,) = compare_runs(runs)
    return comparison


def test_differences_are_to_the_reference_on_the_same_rows(folder):
    comparison = only_comparison(folder / "runs" / "classes")
    scores = score_variants(comparison, "test", "mean", resamples=50)
    by_variant = {score.variant: score for score in scores}
    assert by_variant["mean"].difference is None
    glot = by_variant["glot, tau 0.6"]
    gap = by_variant["mean"].mean - glot.mean
    assert present(glot.difference).value == pytest.approx(gap)
    assert glot.seeds == 2
    low, high = present(glot.interval)
    assert low <= glot.mean <= high
    assert glot.why is None


@pytest.fixture(scope="module")
def without_validation(tmp_path_factory) -> Path:
    """Runs of a store that has nothing but training rows: each seed holds out its own."""
    folder = tmp_path_factory.mktemp("holdouts")
    store = make_store(folder / "store", CLASSES, rows={"train": 240})
    for pooler, seeds in (("mean", [1, 2, 3]), ("adapool", [2, 3]), ("max", [4])):
        config = TrainConfig(
            store=store,
            out=folder / "runs" / pooler,
            epochs=2,
            batch_size=16,
            buckets=1,
            pooler=PoolerConfig(pooler=pooler),
            optimizer=OptimizerConfig(lr=0.05),
        )
        train_seeds(config, seeds, quiet=True)
    return folder / "runs"


def test_every_seed_is_scored_on_the_rows_that_it_held_out(without_validation):
    comparison = only_comparison(without_validation)
    scores = score_variants(comparison, "validation", "mean", resamples=100)
    by_variant = {score.variant: score for score in scores}
    # The rows differ, and so do their labels.
    rows = present(comparison.variants[0].predictions("validation"))
    assert not np.array_equal(rows[0].rows, rows[1].rows)
    accuracies = {}
    for variant in comparison.variants:
        predictions = present(variant.predictions("validation"))
        accuracies[variant.label] = [np.mean(own.predictions == own.labels) for own in predictions]
        score = by_variant[variant.label]
        assert score.mean == pytest.approx(np.mean(accuracies[variant.label]))
        low, high = present(score.interval)
        assert low <= score.mean <= high
    # The seeds that both have, of which each pair saw the same rows.
    gap = np.mean(np.subtract(accuracies["mean"][1:], accuracies["adapool"]))
    difference = present(by_variant["adapool"].difference)
    assert difference.value == pytest.approx(gap)
    low, high = present(difference.interval)
    assert low <= gap <= high
    # No seed of `mean` held out the rows that seed 4 did.
    assert by_variant["max"].difference is None


def test_a_baseline_is_that_of_the_rows_that_were_judged(without_validation):
    comparison = only_comparison(without_validation)
    majorities = []
    for run in comparison.variants[0].runs:
        majorities.append(run.summary.baselines["validation"]["majority"]["accuracy"])
    baselines = comparison.baselines("validation")
    assert len(set(majorities)) > 1
    assert baselines["majority"] == pytest.approx(np.mean(majorities))


def test_few_rows_have_no_interval(folder):
    comparison = only_comparison(folder / "runs" / "scores")
    for score in score_variants(comparison, "validation", None, resamples=50):
        assert score.interval is None
        assert score.why == "12 rows: too few for an interval"
        assert score.selected_here


def test_runs_of_earlier_versions_kept_no_predictions(folder, tmp_path):
    shutil.copytree(folder / "runs" / "classes" / "mean", tmp_path / "mean")
    (tmp_path / "mean" / "predictions.npz").unlink()
    (score,) = score_variants(only_comparison(tmp_path), "test", None, resamples=50)
    assert score.interval is None
    assert score.why == "no predictions.npz: trained by an earlier version"

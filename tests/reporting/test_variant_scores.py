"""Scores with intervals, and why some have none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.typed import present

from glot_jax.reporting.comparison import Comparison, compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.variant_scores import score_variants

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

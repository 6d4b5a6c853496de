"""Metrics meet scikit-learn's on random, constant and missing classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from glot_jax.objectives.metrics import METRICS

f1_score = cast(Callable[..., float], sk.f1_score)
"""Its own annotations know no number for `zero_division`."""


@pytest.mark.parametrize("classes", [1, 2, 3, 5])
def test_class_metrics_are_scikit_learns(classes):
    rng = np.random.default_rng(classes)
    for rows in (1, 2, 7, 200):
        for _ in range(20):
            labels, predictions = rng.integers(0, classes, (2, rows))
            average = "binary" if max(labels.max(), predictions.max()) <= 1 else "macro"
            expected = f1_score(labels, predictions, average=average, zero_division=0.0)
            assert METRICS["f1"](predictions, labels) == pytest.approx(expected, abs=1e-12)
            assert METRICS["mcc"](predictions, labels) == pytest.approx(
                sk.matthews_corrcoef(labels, predictions), abs=1e-12
            )
            assert METRICS["accuracy"](predictions, labels) == pytest.approx(
                sk.accuracy_score(labels, predictions)
            )


def test_one_sided_answers():
    labels = np.array([0, 0, 1, 1, 1])
    for constant in (0, 1):
        predictions = np.full(5, constant)
        assert METRICS["mcc"](predictions, labels) == 0
        assert METRICS["f1"](predictions, labels) == pytest.approx(
            f1_score(labels, predictions, zero_division=0.0)
        )
    assert METRICS["f1"](np.zeros(5, int), np.zeros(5, int)) == 0
    assert METRICS["mcc"](1 - labels, labels) == -1


def test_correlations_are_scipys():
    rng = np.random.default_rng(0)
    for rows in (2, 5, 300):
        for digits in (0, 6):  # with ties, and without
            predictions, labels = np.round(rng.normal(size=(2, rows)), digits)
            labels = np.round(labels + predictions, digits)
            if np.ptp(predictions) and np.ptp(labels):
                spearman, _ = stats.spearmanr(predictions, labels)
                assert METRICS["spearman"](predictions, labels) == pytest.approx(
                    spearman, abs=1e-12
                )
                rounded = predictions.astype(np.float32)
                pearson, _ = stats.pearsonr(rounded.astype(np.float64), labels)
                assert METRICS["pearson"](rounded, labels) == pytest.approx(pearson, abs=1e-9)
    for name in ("pearson", "spearman"):
        assert (
            METRICS[name](np.ones(5), np.arange(5))
            == METRICS[name](np.arange(5), np.ones(5))
            == METRICS[name](np.ones(1), np.ones(1))
            == 0
        )


def test_a_score_that_is_no_number_has_no_rank():
    predictions = np.array([0.1, np.nan, 0.3])
    assert np.isnan(METRICS["spearman"](predictions, np.array([1.0, 2.0, 3.0])))

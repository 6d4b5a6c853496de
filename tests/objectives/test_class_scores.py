"""Scores by class are those that one counts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    brier_score_loss,
    confusion_matrix,
    precision_recall_fscore_support,
)
from support.synthetic_stores import CLASSES

from glot_jax.objectives.class_scores import Calibration, ClassScores, calibration
from glot_jax.objectives.probabilities import softmax

NAMES = ("a", "b", "never", "c")


def test_scores_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 3])
    predictions = np.array([0, 0, 1, 1, 3, 3])
    scores = ClassScores.of_rows(labels, predictions, NAMES)
    a, b, never, c = scores.classes
    assert (a.precision, a.recall, a.support) == (1, pytest.approx(2 / 3), 3)
    assert a.f1 == pytest.approx(0.8)
    assert (b.precision, b.recall, b.support) == (0.5, 0.5, 2)
    # A class without rows that nobody predicts: zeros, and no warning.
    assert (never.precision, never.recall, never.f1, never.support) == (0, 0, 0, 0)
    assert (c.precision, c.recall) == (0.5, 1)
    assert scores.confusion == ((2, 1, 0, 0), (0, 1, 0, 1), (0, 0, 0, 0), (0, 0, 0, 1))


@pytest.mark.parametrize("several", [False, True])
def test_counts_are_those_of_scikit_learn(several):
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "never", "d")
    # Some rows, few enough that classes are missing from one side, the other or both.
    for rows in (1, 3, 40):
        if several:
            labels = rng.integers(0, 2, (rows, len(names)))
            predictions = rng.random((rows, len(names))) < 0.3
            labels[:, 3] = predictions[:, 3] = 0
            scores = ClassScores.of_labels(labels, predictions, names)
        else:
            labels = rng.choice([0, 1, 2, 4], rows)
            predictions = rng.choice([0, 1, 2, 4], rows)
            scores = ClassScores.of_rows(labels, predictions, names)
            counts = confusion_matrix(labels, predictions, labels=np.arange(len(names)))
            np.testing.assert_array_equal(scores.confusion, counts)
        options: dict[str, Any] = {"labels": np.arange(len(names)), "zero_division": 0.0}
        expected = precision_recall_fscore_support(
            labels, predictions.astype(labels.dtype), **options
        )
        for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            ours = [getattr(score, name) for score in scores.classes]
            # Bit by bit: they are printed beside those of earlier versions.
            np.testing.assert_array_equal(ours, values)


def test_json_has_a_class_by_its_name():
    scores = ClassScores.of_rows(np.array([0, 1]), np.array([0, 1]), ("no", "yes"))
    values = scores.to_json()
    assert values["classes"]["yes"] == {"precision": 1, "recall": 1, "f1": 1, "support": 1}
    assert values["confusion"] == [[1, 0], [0, 1]]


def test_probabilities_that_are_right_are_calibrated():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 2, 3], 20_000)
    labels = np.array([rng.choice(3, p=row) for row in shares])
    right = Calibration.of_rows(labels, shares)
    assert right.ece < 0.02
    sharpened = shares**3 / (shares**3).sum(axis=1, keepdims=True)
    wrong = Calibration.of_rows(labels, sharpened)
    assert wrong.ece > 0.1
    assert wrong.brier > right.brier
    whole: dict[str, Any] = {"scale_by_half": False}
    expected = brier_score_loss(labels, shares, labels=[0, 1, 2], **whole)
    assert right.brier == pytest.approx(expected)


def test_calibration_by_hand():
    # One row in the bin of .7, right; two in that of .9, one of them right.
    shares = np.array([[0.7, 0.3], [0.9, 0.1], [0.1, 0.9]])
    result = Calibration.of_rows(np.array([0, 0, 0]), shares)
    assert result.ece == pytest.approx((abs(0.7 - 1) + abs(1.8 - 1)) / 3)
    assert result.brier == pytest.approx((2 * 0.09 + 2 * 0.01 + 2 * 0.81) / 3)
    certain = Calibration.of_rows(np.array([0]), np.array([[1.0, 0.0]]))
    assert (certain.ece, certain.brier) == (0, 0)


# --------------------------------------------------------------------------------------------------
# Several classes a row


def test_each_class_is_counted_by_itself():
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]], np.uint8)
    guessed = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    scores = ClassScores.of_labels(labels, guessed, ("a", "b", "c"))
    for index, score in enumerate(scores.classes):
        alone = ClassScores.of_rows(labels[:, index], guessed[:, index].astype(int), ("no", "yes"))
        yes = alone.classes[1]
        assert (score.precision, score.recall, score.f1) == (yes.precision, yes.recall, yes.f1)
        assert score.support == labels[:, index].sum()
    assert list(scores.to_json()) == ["classes"]


def test_calibration_counts_every_pair_of_a_row_and_a_class():
    labels = np.array([[1, 0], [0, 0]], np.uint8)
    shares = np.array([[0.7, 0.1], [0.7, 0.1]])
    result = Calibration.of_labels(labels, shares)
    # Two in the bin of .7, one of them there; two in that of .1, none there.
    assert result.ece == pytest.approx((abs(1.4 - 1) + abs(0.2 - 0)) / 4)
    assert result.brier == pytest.approx((0.09 + 0.49 + 0.01 + 0.01) / 4)


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_bins_without_rows_add_nothing(rows):
    rng = np.random.default_rng(rows)
    shares = rng.uniform(size=(rows, 1))
    labels = rng.integers(0, 2, (rows, 1))
    # Bin by bin, of those that have rows alone.
    error = 0.0
    for low in range(15):
        inside = (shares > low / 15) & (shares <= (low + 1) / 15)
        if inside.any():
            error += inside.sum() / rows * abs(shares[inside].mean() - labels[inside].mean())
    with np.errstate(all="raise"):
        assert Calibration.of_labels(labels, shares).ece == pytest.approx(error)


def test_a_temperature_moves_the_calibration_and_not_the_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5000, 2)) * 2
    labels = (rng.random(5000) < softmax(logits)[:, 1]).astype(int)
    sharp = 4 * logits
    before = calibration(sharp, labels, CLASSES)
    after = calibration(sharp, labels, CLASSES, 4.0)
    assert after.ece < 0.03 < before.ece
    assert after.brier < before.brier
    assert calibration(sharp, labels, CLASSES, 1.0) == before

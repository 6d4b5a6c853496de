"""How well each class of a task is told from the others, as scikit-learn counts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from glot_jax.objectives.probabilities import probabilities as probabilities_of
from glot_jax.texts.tasks import TaskSpec

_BINS = 15
"""Bins of the calibration error."""


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """Of one class; 0 where a class was never predicted, or never occurs."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Rows of this class."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far probabilities are what they say; 0 is best."""

    ece: float
    """Expected calibration error of the predicted class, over 15 bins of equal width (Guo et al.,
    arXiv 1706.04599): the mean distance of confidence and accuracy.
    """
    brier: float
    """Brier score: the mean squared distance of the probabilities and the true class, 0 to 2."""

    @classmethod
    def of_rows(cls, labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
        """Measure some rows.

        Args:
            labels: [rows] indices of the classes, at least one row.
            probabilities: [rows, classes].
        """
        confidence = probabilities.max(axis=1)
        correct = probabilities.argmax(axis=1) == labels
        truth = np.eye(probabilities.shape[1])[labels]
        distance = np.sum((probabilities - truth) ** 2, axis=1)
        return cls(_calibration_error(confidence, correct), float(distance.mean()))

    @classmethod
    def of_labels(cls, labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
        """Measure rows with several classes: every pair of a row and a class by itself.

        The error is then that of the classes' probabilities, binned from 0 to 1, against how often
        the class is there, and the Brier score is 0 to 1.

        Args:
            labels: [rows, classes], 1 for every class of a row, at least one row.
            probabilities: [rows, classes].
        """
        shares = probabilities.ravel()
        present = labels.ravel() > 0
        return cls(_calibration_error(shares, present), float(np.mean((shares - present) ** 2)))


def _calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Mean distance of confidence and frequency; a bin without rows adds nothing."""
    # A bin holds its upper edge: a confidence of 1 is in the last one.
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    sizes = np.bincount(bins, minlength=_BINS)
    # The sum over a bin is its size times the gap of its means.
    gaps = np.bincount(bins, weights=confidence - correct, minlength=_BINS)
    return float(np.abs(gaps).sum() / sizes.sum())


def calibration(
    logits: np.ndarray, labels: np.ndarray, task: TaskSpec, temperature: float | None = None
) -> Calibration:
    """How far a head's probabilities are what they say.

    Args:
        logits: [rows, classes], at least one row.
        labels: [rows] class indices, or [rows, classes] of 0 and 1.
        task: with classes.
        temperature: of a run that was calibrated.
    """
    shares = probabilities_of(logits, task, temperature)
    if task.label_kind == "multilabel":
        return Calibration.of_labels(labels, shares)
    return Calibration.of_rows(labels, shares)


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Of all classes of a split."""

    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows of a class (first index) that were taken for another (second); empty where a row may
    have several.
    """

    @classmethod
    def of_rows(
        cls, labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]
    ) -> ClassScores:
        """Count some rows.

        Args:
            labels: [rows] indices of the classes.
            predictions: [rows] indices of the classes.
            names: of the classes.
        """
        # One-hot: an entry of the product counts the rows of a class that were taken for another.
        one_hot = np.eye(len(names), dtype=np.int64)
        counts = one_hot[labels].T @ one_hot[predictions]
        hits = np.diagonal(counts)
        by_class = _by_class(hits, counts.sum(axis=1), counts.sum(axis=0), names)
        return cls(by_class, tuple(map(tuple, counts.tolist())))

    @classmethod
    def of_labels(
        cls, labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]
    ) -> ClassScores:
        """Count rows with several classes.

        Args:
            labels: [rows, classes], 1 for every class of a row.
            predictions: [rows, classes] bool, or 0 and 1.
            names: of the classes.
        """
        actual = labels > 0
        predicted = predictions > 0
        hits = np.sum(actual & predicted, axis=0)
        return cls(_by_class(hits, actual.sum(axis=0), predicted.sum(axis=0), names), ())

    def to_json(self) -> dict[str, Any]:
        """Plain values: class -> scores, and the confusion matrix, rows of a class in a row."""
        by_class = {}
        for score in self.classes:
            values = dataclasses.asdict(score)
            del values["name"]
            by_class[score.name] = values
        if not self.confusion:
            return {"classes": by_class}
        return {"classes": by_class, "confusion": [list(row) for row in self.confusion]}


# Not scikit-learn's: with pandas and SciPy it takes seconds to load, after runs of less.
def _by_class(
    hits: np.ndarray, actual: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Scores from counts of rows [classes]: rightly predicted, of the class, and predicted."""
    precision = _shares(hits, predicted)
    recall = _shares(hits, actual)
    f1 = _shares(2 * hits, actual + predicted)
    scores = []
    for n, name in enumerate(names):
        scores.append(
            ClassScore(name, float(precision[n]), float(recall[n]), float(f1[n]), int(actual[n]))
        )
    return tuple(scores)


def _shares(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    # 0 where there is nothing to have a share of; the divisor there only keeps NumPy silent.
    return np.where(totals > 0, counts / np.maximum(totals, 1), 0.0)

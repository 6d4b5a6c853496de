"""How well each class of a task is told from the others, as scikit-learn counts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

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
        # A bin holds its upper edge: a confidence of 1 is in the last one.
        bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
        sizes = np.bincount(bins, minlength=_BINS)
        gaps = np.bincount(bins, weights=confidence - correct, minlength=_BINS)
        truth = np.eye(probabilities.shape[1])[labels]
        distance = np.sum((probabilities - truth) ** 2, axis=1)
        # The sum over a bin is its size times the gap of its means.
        return cls(float(np.abs(gaps).sum() / sizes.sum()), float(distance.mean()))


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Of all classes of a split."""

    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows of a class (first index) that were taken for another (second)."""

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
        numbers = np.arange(len(names))
        # 0 without a warning where a class was never predicted.
        count: Any = precision_recall_fscore_support
        precision, recall, f1, support = count(
            labels, predictions, labels=numbers, zero_division=0.0
        )
        classes = tuple(
            ClassScore(name, float(precision[n]), float(recall[n]), float(f1[n]), int(support[n]))
            for n, name in enumerate(names)
        )
        counts = confusion_matrix(labels, predictions, labels=numbers)
        return cls(classes, tuple(map(tuple, counts.tolist())))

    def to_json(self) -> dict[str, Any]:
        """Plain values: class -> scores, and the confusion matrix, rows of a class in a row."""
        by_class = {}
        for score in self.classes:
            values = dataclasses.asdict(score)
            del values["name"]
            by_class[score.name] = values
        return {"classes": by_class, "confusion": [list(row) for row in self.confusion]}

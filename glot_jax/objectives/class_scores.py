"""How well each class of a task is told from the others, as scikit-learn counts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support


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

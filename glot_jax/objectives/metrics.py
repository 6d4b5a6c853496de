"""Metrics of the tasks, by scikit-learn and scipy, on the host.

Each takes predictions [rows] (class indices, or scores) and labels [rows] and returns a float, higher is better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn import metrics as sk


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(predictions == labels))


def mcc(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation; 0 where one side is constant."""
    return float(sk.matthews_corrcoef(labels, predictions))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 where there are two classes (GLUE's MRPC and QQP), the unweighted mean over classes otherwise."""
    binary = max(int(np.max(labels, initial=0)), int(np.max(predictions, initial=0))) <= 1
    return float(sk.f1_score(labels, predictions, average="binary" if binary else "macro", zero_division=0.0))  # type: ignore[arg-type]


def _correlation(function: Callable, predictions: np.ndarray, labels: np.ndarray) -> float:
    """A correlation with a constant is undefined; it is reported as 0, like MCC, not as NaN."""
    if len(labels) < 2 or np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(function(predictions, labels).statistic)


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    return _correlation(stats.pearsonr, predictions, labels)


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    return _correlation(stats.spearmanr, predictions, labels)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy, "mcc": mcc, "f1": f1, "pearson": pearson, "spearman": spearman,
}

"""Metrics of the tasks on the host, equal to those of scikit-learn and scipy.

Each takes predictions [rows] (class indices, or scores) and labels [rows] and returns a float,
higher is better. Those of a ranking take the scores of every query, [rows, 3] as
`ranking.query_scores` makes them, and average over queries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from glot_jax.objectives.ranking import RANKING


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(predictions == labels))


def _confusion(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [classes, classes], rows: labels.

    Intervals ask for it thousands of times, which scikit-learn's checks forbid.
    """
    classes, codes = np.unique(np.concatenate([labels, predictions]), return_inverse=True)
    true, guessed = np.split(codes, [len(labels)])
    return (
        np.bincount(true * len(classes) + guessed, minlength=len(classes) ** 2)
        .reshape(len(classes), -1)
        .astype(np.float64)
    )


def mcc(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation, as scikit-learn's; 0 where one side is constant."""
    confusion = _confusion(predictions, labels)
    true, guessed, rows = confusion.sum(1), confusion.sum(0), confusion.sum()
    spread = (rows**2 - true @ true) * (rows**2 - guessed @ guessed)
    return (
        float((np.trace(confusion) * rows - true @ guessed) / np.sqrt(spread))
        if spread > 0
        else 0.0
    )


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 where there are two classes (GLUE's MRPC and QQP), the unweighted mean over
    classes otherwise, as scikit-learn's; 0 for a class that is neither there nor predicted."""
    if max(int(np.max(labels, initial=0)), int(np.max(predictions, initial=0))) <= 1:
        right = float(np.sum((labels == 1) & (predictions == 1)))
        marked = float(np.sum(labels == 1) + np.sum(predictions == 1))
        return 2 * right / marked if marked else 0.0
    confusion = _confusion(predictions, labels)
    return float(np.mean(2 * np.diag(confusion) / (confusion.sum(0) + confusion.sum(1))))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation, as scipy's.

    A correlation with a constant is undefined; it is reported as 0, like MCC, not as NaN.
    """
    if len(labels) < 2 or np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    a, b = (
        np.asarray(of, np.float64) - np.mean(of, dtype=np.float64) for of in (predictions, labels)
    )
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation of the ranks, equal values sharing theirs."""
    return pearson(stats.rankdata(predictions), stats.rankdata(labels))


def _mean_over_queries(column: int) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda predictions, labels: float(np.mean(predictions[:, column]))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "mcc": mcc,
    "f1": f1,
    "pearson": pearson,
    "spearman": spearman,
    **{name: _mean_over_queries(column) for column, name in enumerate(RANKING)},
}

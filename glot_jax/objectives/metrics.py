"""Metrics of the tasks on the host, equal to those of scikit-learn and scipy.

Each takes predictions [rows] (class indices, or scores) and labels [rows] and returns a float,
higher is better. Those of a ranking take the scores of every query, [rows, 3] as
`query_metrics.query_scores` makes them, and average over queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import stats

from glot_jax.objectives.query_metrics import RANKING

JudgedFeed: TypeAlias = Any
"""A feed of the kind that an objective names; each objective asks something else of it."""


class Outputs(NamedTuple):
    """What a model computed for one split, in the order of the feed's plan."""

    values: np.ndarray
    """[n, width] float32: outputs of the head, or vectors of texts."""
    rows: np.ndarray
    """[n] int64: rows of the plan; those that only fill a batch are left out."""
    losses: np.ndarray
    """[n] float32: loss of each row; empty where `values` are vectors."""

    def by_row(self) -> np.ndarray:
        """[n, width]: the values of the rows 0 .. n - 1, of a plan that has all of them."""
        ordered = np.empty_like(self.values)
        ordered[self.rows] = self.values
        return ordered


class Predictions(NamedTuple):
    """Predictions for one split, rows in the order of the store."""

    predictions: np.ndarray
    """[rows]: class indices, or scores on the task's own scale; [queries, 3] of a ranking: the
    scores of every query."""
    labels: np.ndarray
    """[rows]; of a ranking: the number of relevant texts."""
    rows: np.ndarray
    """[rows] int64, of the stored split; a holdout has some of them only."""


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of the rows whose class is predicted."""
    return float(np.mean(predictions == labels))


def _confusion(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [classes, classes], rows: labels."""
    # Not scikit-learn's: intervals ask for it thousands of times, which its checks forbid.
    both = np.concatenate([labels, predictions])
    classes, codes = np.unique(both, return_inverse=True)
    count = len(classes)
    true, guessed = np.split(codes, [len(labels)])
    # A pair of classes is one number: row by row of the matrix.
    counts = np.bincount(true * count + guessed, minlength=count**2)
    return counts.reshape(count, -1).astype(np.float64)


def mcc(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation, as scikit-learn's; 0 where one side is constant."""
    confusion = _confusion(predictions, labels)
    true = confusion.sum(1)
    guessed = confusion.sum(0)
    rows = confusion.sum()
    spread = (rows**2 - true @ true) * (rows**2 - guessed @ guessed)
    if spread <= 0:
        return 0.0
    covariance = np.trace(confusion) * rows - true @ guessed
    return float(covariance / np.sqrt(spread))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1 where there are two classes (GLUE's MRPC and QQP), as scikit-learn's.

    Of more classes the unweighted mean over them. 0 for a class that is neither there nor
    predicted.
    """
    # The largest class that occurs, on either side.
    largest = np.maximum(np.max(labels, initial=0), np.max(predictions, initial=0))
    if int(largest) <= 1:
        is_one = labels == 1
        predicted_one = predictions == 1
        right = float(np.sum(is_one & predicted_one))
        marked = float(np.sum(is_one) + np.sum(predicted_one))
        return 2 * right / marked if marked else 0.0
    confusion = _confusion(predictions, labels)
    # No class here is neither there nor predicted: the matrix has none of those.
    marked_by_class = confusion.sum(0) + confusion.sum(1)
    return float(np.mean(2 * np.diag(confusion) / marked_by_class))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation, as scipy's.

    A correlation with a constant is undefined; it is reported as 0, like MCC, not as NaN.
    """
    if len(labels) < 2:
        return 0.0
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    a = _centred(predictions)
    b = _centred(labels)
    norms = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / norms)


def _centred(values: np.ndarray) -> np.ndarray:
    mean = np.mean(values, dtype=np.float64)
    return np.asarray(values, np.float64) - mean


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation of the ranks, equal values sharing theirs."""
    # Average ranks for ties, as scipy.stats.spearmanr has them.
    return pearson(stats.rankdata(predictions), stats.rankdata(labels))


def _mean_over_queries(column: int) -> Callable[[np.ndarray, np.ndarray], float]:
    def mean(predictions: np.ndarray, labels: np.ndarray) -> float:
        del labels  # the scores of a query say already how well it ranks its relevant texts
        return float(np.mean(predictions[:, column]))

    return mean


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "mcc": mcc,
    "f1": f1,
    "pearson": pearson,
    "spearman": spearman,
    # Any other number of queries can be averaged again: intervals resample the rows of the table.
    **{name: _mean_over_queries(column) for column, name in enumerate(RANKING)},
}


def score(
    predictions: np.ndarray,
    labels: np.ndarray,
    metrics: Sequence[str],
) -> dict[str, float]:
    """Metrics by name, in the order in which they are asked for."""
    return {name: METRICS[name](predictions, labels) for name in metrics}


def judge_rows(
    outputs: Outputs, predictions: np.ndarray, labels: np.ndarray, metrics: Sequence[str]
) -> tuple[dict[str, float], Predictions]:
    """Scores of rows that are judged one by one: the metrics, and their mean loss.

    Args:
        outputs: of the model.
        predictions: [n] in the order of the outputs.
        labels: [n] in the order of the outputs.
        metrics: names of METRICS.

    Returns:
        The scores by name, and the predictions in the order of the store.
    """
    scores = score(predictions, labels, metrics)
    # Summed in the order of the plan, which a resumed run has too: equal runs write equal bytes.
    scores["loss"] = float(np.mean(outputs.losses, dtype=np.float64))
    order = np.argsort(outputs.rows)
    return scores, Predictions(predictions[order], labels[order], outputs.rows[order])

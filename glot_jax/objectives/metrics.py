"""Metrics of the tasks on the host, equal to those of scikit-learn and scipy.

Each takes predictions [rows] (class indices, or scores) and labels [rows] and returns a float,
higher is better. Those of a ranking take the scores of every query, [rows, 3] as
`query_metrics.query_scores` makes them, and average over queries. Those of several classes a row
take logits [rows, classes], of which the positive ones are predicted, and labels [rows, classes] of
0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

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
        # Every row is written, so nothing of the empty array is left.
        ordered = np.empty_like(self.values)
        ordered[self.rows] = self.values
        return ordered


class Predictions(NamedTuple):
    """Predictions for one split, rows in the order of the store."""

    predictions: np.ndarray
    """[rows]: class indices, or scores on the task's own scale; [rows, classes]: logits of several
    classes a row; [queries, 3] of a ranking: the scores of every query."""
    labels: np.ndarray
    """[rows], or [rows, classes] of 0 and 1; of a ranking: the number of relevant texts."""
    rows: np.ndarray
    """[rows] int64, of the stored split; a holdout has some of them only."""


def accuracy(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Share of the rows whose class is predicted."""
    return float(np.mean(predictions == labels))


def _confusion(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """float64 [classes, classes], rows: labels."""
    # Not scikit-learn's: intervals ask for it thousands of times, which its checks forbid.
    both = np.concatenate([labels, predictions])
    classes, codes = np.unique(both, return_inverse=True)
    count = len(classes)
    true, guessed = np.split(codes, [len(labels)])
    # A pair of classes is one number: row by row of the matrix.
    pairs = true * count + guessed
    counts = np.bincount(pairs, minlength=count**2)
    matrix = counts.reshape(count, -1)
    # mcc multiplies four such counts, which overflows int64 above some 50,000 rows.
    return matrix.astype(np.float64)


def mcc(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Matthews correlation, as scikit-learn's; 0 where one side is constant."""
    confusion = _confusion(predictions, labels)
    true = confusion.sum(1)
    guessed = confusion.sum(0)
    rows = confusion.sum()
    spread_of_labels = rows**2 - true @ true
    spread_of_guesses = rows**2 - guessed @ guessed
    spread = spread_of_labels * spread_of_guesses
    if spread <= 0:
        return 0.0
    covariance = np.trace(confusion) * rows - true @ guessed
    return float(covariance / np.sqrt(spread))


def f1(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """F1 of class 1 where there are two classes (GLUE's MRPC and QQP), as scikit-learn's.

    Of more classes the unweighted mean over them. 0 for a class that is neither there nor
    predicted.
    """
    # The largest class that occurs, on either side.
    largest_label = np.max(labels, initial=0)
    largest_guess = np.max(predictions, initial=0)
    largest = np.maximum(largest_label, largest_guess)
    if int(largest) <= 1:
        is_one = labels == 1
        predicted_one = predictions == 1
        right = float(np.sum(is_one & predicted_one))
        # True positives are counted on both sides, so the harmonic mean is 2 right / marked.
        marked = float(np.sum(is_one) + np.sum(predicted_one))
        return 2 * right / marked if marked else 0.0
    confusion = _confusion(predictions, labels)
    # No class here is neither there nor predicted: the matrix has none of those.
    marked_by_class = confusion.sum(0) + confusion.sum(1)
    right_by_class = np.diag(confusion)
    scores = 2 * right_by_class / marked_by_class
    return float(np.mean(scores))


def f1_micro(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """F1 over all pairs of a row and a class, as scikit-learn's; 0 where there is nothing to find.

    Where every row has one class and one is predicted, it is their accuracy.
    """
    right, marked = _counts_by_class(predictions, labels)
    everything = float(marked.sum())
    return 2 * float(right.sum()) / everything if everything else 0.0


def f1_macro(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Mean over the classes of their F1, as scikit-learn's; 0 for one that never occurs."""
    right, marked = _counts_by_class(predictions, labels)
    return float(np.mean(2 * right / np.maximum(marked, 1)))


def _counts_by_class(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [classes]: true positives, and how often a class is true or predicted."""
    guessed = predictions > 0
    true = labels > 0
    right = np.count_nonzero(guessed & true, axis=0)
    # True positives are counted on both sides, so the harmonic mean is 2 right / marked.
    marked = np.count_nonzero(guessed, axis=0) + np.count_nonzero(true, axis=0)
    return np.asarray(right, np.float64), np.asarray(marked, np.float64)


def average_precision(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Mean over the classes of how well their rows are ranked first, as scikit-learn's.

    0 for a class that no row has.
    """
    # Here, as everywhere in this room: scikit-learn takes seconds to load, which no other task
    # needs before its first step.
    from sklearn.metrics import average_precision_score

    precisions = np.zeros(labels.shape[1])
    # Class by class: of one without rows scikit-learn says 0 as well, with a warning.
    for index in np.flatnonzero(labels.any(axis=0)):
        precisions[index] = average_precision_score(labels[:, index], predictions[:, index])
    return float(np.mean(precisions))


def pearson(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Pearson correlation, as scipy's.

    A correlation with a constant is undefined; it is reported as 0, like MCC, not as NaN.
    """
    if len(labels) < 2:
        return 0.0
    if np.ptp(predictions) == 0:
        return 0.0
    if np.ptp(labels) == 0:
        return 0.0
    a = _centred(predictions)
    b = _centred(labels)
    squares_a = np.sum(a * a)
    squares_b = np.sum(b * b)
    norms = np.sqrt(squares_a * squares_b)
    return float(np.sum(a * b) / norms)


def _centred(values: np.ndarray) -> np.ndarray:
    mean = np.mean(values, dtype=np.float64)
    return np.asarray(values, np.float64) - mean


def spearman(
    predictions: np.ndarray,
    labels: np.ndarray,
) -> float:
    """Pearson correlation of the ranks, equal values sharing theirs."""
    return pearson(_ranks(predictions), _ranks(labels))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, of equal values the mean of theirs; all nan if a value is."""
    # Not scipy's, whose module of statistics takes a second and a half to load.
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    first = last - counts + 1
    return ((first + last) / 2)[codes]


def _mean_over_queries(column: int) -> Metric:
    def mean(
        predictions: np.ndarray,
        labels: np.ndarray,
    ) -> float:
        del labels  # the scores of a query say already how well it ranks its relevant texts
        return float(np.mean(predictions[:, column]))

    return mean


Metric: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
"""(predictions, labels) -> value."""

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "mcc": mcc,
    "f1": f1,
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "average_precision": average_precision,
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
    outputs: Outputs,
    predictions: np.ndarray,
    labels: np.ndarray,
    metrics: Sequence[str],
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
    loss = np.mean(outputs.losses, dtype=np.float64)
    scores["loss"] = float(loss)
    order = np.argsort(outputs.rows)
    in_order = Predictions(
        predictions[order],
        labels[order],
        outputs.rows[order],
    )
    return scores, in_order

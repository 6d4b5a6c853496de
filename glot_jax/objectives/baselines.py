"""What scores without reading a token: the commonest class, and the number of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from glot_jax.objectives.metrics import score
from glot_jax.objectives.query_metrics import RANKING, chance, query_scores
from glot_jax.objectives.regressions import Linear, Logistic
from glot_jax.texts.tasks import TaskSpec

_ENOUGH = 2000  # training queries that tell whether long candidates or short ones are relevant

Baselines = dict[str, dict[str, float]]
"""Baseline (majority, length) -> metric -> value."""


@runtime_checkable
class LabelledRows(Protocol):
    """What the baselines of rows are computed from; a `Feed` is one."""

    @property
    def planned_labels(self) -> np.ndarray:
        """[rows] labels."""
        ...

    @property
    def planned_lengths(self) -> np.ndarray:
        """[rows, texts of a row] tokens."""
        ...


@runtime_checkable
class RankedLengths(Protocol):
    """What those of queries are computed from; the feeds of a ranking are."""

    def length_rankings(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(tokens [n] int64, relevant [n] bool) of every query's candidates."""
        ...


def row_baselines(
    train: LabelledRows,
    split: LabelledRows,
    task: TaskSpec,
) -> Baselines:
    """Baselines of a split whose rows are judged one by one.

    Args:
        train: the training rows.
        split: the rows that are judged.
        task: whose metrics are computed.
    """
    labels = split.planned_labels
    by_length = length_baseline(
        train.planned_lengths,
        train.planned_labels,
        split.planned_lengths,
        labels,
        task,
    )
    return {
        "majority": majority(train.planned_labels, labels, task),
        "length": by_length,
    }


def multilabel_baselines(
    train: LabelledRows,
    split: LabelledRows,
    task: TaskSpec,
) -> Baselines:
    """Baselines of a split whose rows have several classes.

    `majority` gives every row the classes that more than half of the training rows have, most often
    none, and ranks all rows alike. `length` is a logistic regression for each class on the lengths.

    Args:
        train: the training rows.
        split: the rows that are judged.
        task: whose metrics are computed.
    """
    labels = train.planned_labels
    judged = split.planned_labels
    # The logit of a share is positive above a half; half a row keeps it finite.
    rows = len(labels)
    shares = (labels.sum(axis=0, dtype=np.float64) + 0.5) / (rows + 1)
    # Ranks no row above another: average precision is then the share of the class.
    always = np.tile(np.log(shares / (1 - shares)), (len(judged), 1))
    by_length = always.copy()
    features = _length_features(train.planned_lengths)
    judged_features = _length_features(split.planned_lengths)
    for index in range(labels.shape[1]):
        # Nothing can be told from lengths where all rows are alike.
        if len(np.unique(labels[:, index])) < 2:
            continue
        fitted = Logistic.fit(features, labels[:, index])
        by_length[:, index] = fitted.logits(judged_features)[:, 0]
    return {
        "majority": score(always, judged, task.metrics),
        "length": score(by_length, judged, task.metrics),
    }


def majority(
    train_labels: np.ndarray,
    labels: np.ndarray,
    spec: TaskSpec,
) -> dict[str, float]:
    """What the commonest training class scores.

    For scores it is their mean, so every correlation is 0.
    """
    if spec.label_kind == "classes":
        # `minlength`: the last class may not occur in train.
        classes = train_labels.astype(int)
        counts = np.bincount(classes, minlength=len(spec.classes))
        constant = counts.argmax()
    else:
        # Any constant has the same correlation, which is none.
        constant = train_labels.mean()
    predictions = np.full(len(labels), constant)
    return score(predictions, labels, spec.metrics)


def length_baseline(
    train_lengths: np.ndarray,
    train_labels: np.ndarray,
    lengths: np.ndarray,
    labels: np.ndarray,
    spec: TaskSpec,
) -> dict[str, float]:
    """What the number of tokens alone scores.

    A logistic (classes) or linear regression on the log lengths of a row's texts, and of two texts
    on how far these are apart.

    Args:
        train_lengths: [rows, texts of a row] tokens.
        train_labels: [rows].
        lengths: [rows, texts of a row] tokens of the rows that are judged.
        labels: [rows] of the same.
        spec: the task.
    """
    # Nothing can be told from lengths where all rows are alike.
    if len(np.unique(train_labels)) < 2:
        return majority(train_labels, labels, spec)
    kind = Linear if spec.label_kind == "regression" else Logistic
    fitted = kind.fit(_length_features(train_lengths), train_labels)
    predictions = fitted.predict(_length_features(lengths))
    return score(predictions, labels, spec.metrics)


def _length_features(lengths: np.ndarray) -> np.ndarray:
    # The logarithm: one token more matters among short texts. An empty text has length 0.
    logs = np.log1p(lengths.astype(np.float64))
    # Of one text there is no difference: this has no column then.
    differences = np.diff(logs, axis=1)
    distance = np.abs(differences)
    return np.concatenate([logs, distance], axis=1)


def query_baselines(train: RankedLengths, split: RankedLengths) -> Baselines:
    """Baselines of a split of queries, both computed on that split.

    `majority` is what a random order scores on average. `length` ranks the longest candidate first,
    or the shortest: whichever is better on training queries that have negatives (the longest where
    none has).

    Args:
        train: the training queries.
        split: the queries that are judged.
    """
    # Decided on training queries: on those that are judged it would be chosen in hindsight.
    sign = -1 if _short_ones_first(train) else 1
    by_chance = []
    by_length = []
    for lengths, relevant in split.length_rankings():
        count = int(relevant.sum())
        by_chance.append(chance(len(relevant), count))
        by_length.append(query_scores(sign * lengths, relevant))
    return {
        "majority": _mean_scores(by_chance),
        "length": _mean_scores(by_length),
    }


def _mean_scores(scores: list[np.ndarray]) -> dict[str, float]:
    means = np.stack(scores).mean(axis=0)
    # Python's own floats, which json can write.
    values = map(float, means)
    return dict(zip(RANKING, values, strict=True))


def _short_ones_first(train: RankedLengths) -> bool:
    """Whether ranking the shortest candidates first is better than the longest first."""
    longest_first = 0.0
    shortest_first = 0.0
    # A sample decides as well as all of them, and a split may have millions.
    sample = itertools.islice(train.length_rankings(), _ENOUGH)
    for lengths, relevant in sample:
        longest_first += query_scores(lengths, relevant)[0]
        shortest_first += query_scores(-lengths, relevant)[0]
    # Strictly: without any such query the longest come first.
    return bool(shortest_first > longest_first)

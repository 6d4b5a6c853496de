"""What a score on so many rows says: intervals over rows, and tests of two poolers on the same rows.

Seeds of one pooler are averaged inside every resample: an interval is about the rows of the split, the deviation over
seeds stands beside it. Everything is scipy's; this module only says what is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Score = Callable[[np.ndarray, np.ndarray], float]
"""(predictions [rows], labels [rows]) -> a metric, as in glot_jax.objectives.METRICS."""

FEWEST_ROWS = 20
"""Below this many rows an interval would pretend to know what it does not."""


class Interval(NamedTuple):
    """95 % percentile bootstrap over rows."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.3f}, {self.high:.3f}]"


class Difference(NamedTuple):
    """Of two poolers on the same rows, seeds averaged."""

    value: float
    """First minus second."""
    interval: Interval | None
    p: float | None
    """Two-sided, by permutation: how often so large a difference comes from swapping the two at random, row by row."""


def mean_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and sample deviation (ddof 1) where there are two values or more."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def score_interval(score: Score, predictions: Sequence[np.ndarray], labels: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> Interval | None:
    """Of the mean over seeds of `score`; None for fewer than FEWEST_ROWS rows.

    Args:
        predictions: of each seed, [rows].
        labels: [rows].
    """
    labels = np.asarray(labels)
    if len(labels) < FEWEST_ROWS:
        return None
    return _interval(lambda rows: _mean_score(score, predictions, labels, rows), len(labels), resamples, seed)


def paired_difference(
    score: Score, first: Sequence[np.ndarray], second: Sequence[np.ndarray], labels: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Two poolers on the same rows; interval and p are None for fewer than FEWEST_ROWS rows.

    Args:
        first, second: predictions of each seed, [rows]; the two need not have equally many seeds.
        labels: [rows].
    """
    labels = np.asarray(labels)
    every = np.arange(len(labels))
    value = _mean_score(score, first, labels, every) - _mean_score(score, second, labels, every)
    if len(labels) < FEWEST_ROWS:
        return Difference(value, None, None)
    interval = _interval(
        lambda rows: _mean_score(score, first, labels, rows) - _mean_score(score, second, labels, rows), len(labels), resamples, seed
    )
    # A pair is a row's place in the first and in the second pooler's predictions, and the two may change sides.
    both = [np.concatenate([a, b]) for a, b in _in_pairs(first, second)]
    doubled = np.concatenate([labels, labels])

    def statistic(left: np.ndarray, right: np.ndarray) -> float:
        return _mean_score(score, both, doubled, left) - _mean_score(score, both, doubled, right)

    test = stats.permutation_test(
        (every, every + len(labels)), statistic, permutation_type="samples", n_resamples=resamples, vectorized=False, rng=np.random.default_rng(seed)
    )
    return Difference(value, interval, float(test.pvalue))


def _in_pairs(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each seed of one beside a seed of the other, so often that all count alike."""
    count = math.lcm(len(first), len(second))
    return [(first[i % len(first)], second[i % len(second)]) for i in range(count)]


def _mean_score(score: Score, predictions: Sequence[np.ndarray], labels: np.ndarray, rows: np.ndarray) -> float:
    return float(np.mean([score(of[rows], labels[rows]) for of in predictions]))


def _interval(statistic: Callable[[np.ndarray], float], rows: int, resamples: int, seed: int) -> Interval:
    result = stats.bootstrap(
        (np.arange(rows),), statistic, n_resamples=resamples, vectorized=False, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return Interval(float(result.low), float(result.high))

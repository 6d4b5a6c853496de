"""How certain a score on so many rows is.

Intervals over rows, and tests of two poolers on the same rows.

Seeds of one pooler are averaged inside every resample: an interval, and the p over rows, take the
trained heads as they are and ask about other rows of the split. Whether training again, from other
seeds, gives the same order is another question: the deviation over seeds and the p over seeds stand
beside it. Everything is scipy's; this module only says what is resampled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
    """The difference between two poolers on the same rows, seeds averaged."""

    value: float
    """First minus second."""
    interval: Interval | None
    p: float | None
    """Two-sided, by permutation: how often so large a difference comes from swapping the two at
    random, row by row.
    """
    p_seeds: float | None = None
    """Two-sided, Welch's t-test of the scores of the seeds; None for a pooler with one seed, or if
    no seed changes anything.
    """

    @property
    def p_both(self) -> float | None:
        """The larger of the two p.

        It is below a level where the difference outlasts both other rows and other seeds.
        """
        if self.p is None:
            return None
        return max(self.p, self.p_seeds or 0.0)


def mean_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and sample deviation (ddof 1) where there are two values or more."""
    deviation = None
    if len(values) > 1:
        deviation = float(np.std(values, ddof=1))
    return float(np.mean(values)), deviation


def number_text(mean: float, deviation: float | None) -> str:
    """`mean ± deviation`, or the mean alone where there is no deviation."""
    if deviation is None:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {deviation:.3f}"


def p_text(rows: float | None, seeds: float | None) -> str:
    """` (p over rows; p over seeds)`, as far as the two exist."""
    if rows is None:
        return ""
    if seeds is None:
        return f" ({rows:.3f})"
    return f" ({rows:.3f}; {seeds:.3f})"


def score_interval(
    score: Score,
    predictions: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """The interval of the mean over seeds of `score`.

    None for fewer than FEWEST_ROWS rows (or groups of rows).

    Args:
        score: metric of one seed's predictions.
        predictions: of each seed, [rows].
        labels: [rows].
        groups: [rows], equal for rows that are no separate evidence (the stress test's twins): they
            are drawn together.
        resamples: bootstrap samples.
        seed: of the resampling, so that a report is the same whenever it is written.
    """
    labels = np.asarray(labels)
    units = _Units(groups, len(labels))
    if units.count < FEWEST_ROWS:
        return None

    def resampled(drawn: np.ndarray) -> float:
        return _mean_score(score, predictions, labels, units.rows(drawn))

    return _interval(resampled, units.count, resamples, seed)


def paired_difference(
    score: Score,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two poolers on the same rows.

    Interval and p are None for fewer than FEWEST_ROWS rows (or groups of rows).

    Args:
        score: metric of one seed's predictions.
        first: predictions of each seed, [rows].
        second: the same; the two need not have equally many seeds.
        labels: [rows].
        groups: [rows], equal for rows that are drawn, and change sides, together.
        resamples: bootstrap samples and permutations.
        seed: of both, so that a report is the same whenever it is written.
    """
    labels = np.asarray(labels)
    units = _Units(groups, len(labels))
    # The rows as they are, in the terms of a resample.
    every = np.arange(len(labels))

    def difference_on(rows: np.ndarray) -> float:
        first_score = _mean_score(score, first, labels, rows)
        second_score = _mean_score(score, second, labels, rows)
        return first_score - second_score

    value = difference_on(every)
    p_seeds = welch(
        _seed_scores(score, first, labels),
        _seed_scores(score, second, labels),
    )
    if units.count < FEWEST_ROWS:
        return Difference(value, None, None, p_seeds)

    def difference(drawn: np.ndarray) -> float:
        return difference_on(units.rows(drawn))

    interval = _interval(difference, units.count, resamples, seed)
    # A pair is a row's index in the first and in the second pooler's predictions, and the two may
    # change sides: rows of the second are numbered on from the last row of the first.
    both = [np.concatenate(pair) for pair in _in_pairs(first, second)]
    # Each row occurs twice, once for each pooler, with the same label.
    doubled = np.concatenate([labels, labels])

    def statistic(left: np.ndarray, right: np.ndarray) -> float:
        left_score = _mean_score(score, both, doubled, sides(left))
        right_score = _mean_score(score, both, doubled, sides(right))
        return left_score - right_score

    def sides(drawn: np.ndarray) -> np.ndarray:
        """Rows of units, which are numbered on in the same way."""
        is_own = drawn < units.count
        own = units.rows(drawn[is_own])
        others = units.rows(drawn[~is_own] - units.count)
        return np.concatenate([own, others + len(labels)])

    p = _permuted(statistic, units.count, resamples, seed)
    return Difference(value, interval, p, p_seeds)


def own_rows_interval(
    score: Score,
    predictions: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """The interval of `score_interval` where every seed was judged on rows of its own.

    Those are the holdouts of a store without a validation split. Rows are drawn within each seed.
    None where a seed has fewer than FEWEST_ROWS rows.

    Args:
        score: metric of one seed's predictions.
        predictions: of each seed, on its rows.
        labels: of each seed, of the same rows.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    sizes = [len(own) for own in labels]
    if min(sizes) < FEWEST_ROWS:
        return None

    def resampled(*drawn: np.ndarray) -> float:
        return float(np.mean(_own_scores(score, predictions, labels, drawn)))

    return _interval_within(resampled, sizes, resamples, seed)


def own_rows_difference(
    score: Score,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two poolers of the same seeds, each seed judged on rows of its own.

    A pair is a row of a seed: the two poolers have seen the same one. Interval and p are None where
    a seed has fewer than FEWEST_ROWS rows.

    Args:
        score: metric of one seed's predictions.
        first: predictions of each seed, on its rows.
        second: the same, of the same seeds in the same order.
        labels: of each seed, of the same rows.
        resamples: bootstrap samples and permutations.
        seed: of both.
    """
    sizes = [len(own) for own in labels]

    def difference(*drawn: np.ndarray) -> float:
        first_scores = _own_scores(score, first, labels, drawn)
        second_scores = _own_scores(score, second, labels, drawn)
        return float(np.mean(first_scores) - np.mean(second_scores))

    every = [np.arange(size) for size in sizes]
    value = difference(*every)
    p_seeds = welch(
        _own_scores(score, first, labels, every),
        _own_scores(score, second, labels, every),
    )
    if min(sizes) < FEWEST_ROWS:
        return Difference(value, None, None, p_seeds)
    interval = _interval_within(difference, sizes, resamples, seed)
    # All rows of all seeds behind one another, those of the second pooler after the first's.
    joined = np.concatenate([*first, *second])
    # Where the next seed's rows begin.
    cuts = np.cumsum(sizes)[:-1]

    def mean_score(rows: np.ndarray) -> float:
        # A row stays at its place whatever side it is taken from: each part is a seed's.
        guesses = np.split(joined[rows], cuts)
        return float(np.mean(_own_scores(score, guesses, labels, every)))

    def statistic(left: np.ndarray, right: np.ndarray) -> float:
        return mean_score(left) - mean_score(right)

    return Difference(value, interval, _permuted(statistic, sum(sizes), resamples, seed), p_seeds)


def _own_scores(
    score: Score,
    predictions: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    drawn: Sequence[np.ndarray],
) -> list[float]:
    """The score of each seed on some of its own rows."""
    scores = []
    for guesses, own, rows in zip(predictions, labels, drawn, strict=True):
        scores.append(score(guesses[rows], own[rows]))
    return scores


def _seed_scores(
    score: Score,
    predictions: Sequence[np.ndarray],
    labels: np.ndarray,
) -> list[float]:
    return [score(guesses, labels) for guesses in predictions]


def welch(
    first: Sequence[float],
    second: Sequence[float],
) -> float | None:
    """Welch's p of two samples of scores, one of each seed; None where there is no variance."""
    # A single seed has no variance.
    if min(len(first), len(second)) < 2:
        return None
    # Without a variance of either there is nothing to compare the difference with.
    if np.ptp(first) == np.ptp(second) == 0:
        return None
    with warnings.catch_warnings():
        # Seeds of one pooler may well agree to the last digit; the other's then make the variance.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        test: Any = stats.ttest_ind(first, second, equal_var=False)
    return float(test.pvalue)


class _Units:
    """What is drawn: rows, or groups of rows."""

    def __init__(self, groups: np.ndarray | None, rows: int):
        self._members: list[np.ndarray] | None = None
        self.count = rows
        if groups is not None:
            _, group = np.unique(groups, return_inverse=True)
            # Rows sorted by their group, cut where the next group begins.
            ends = np.cumsum(np.bincount(group))
            # Stable: rows of a group stay in their order.
            rows_by_group = np.argsort(group, kind="stable")
            self._members = np.split(rows_by_group, ends[:-1])
            self.count = len(self._members)

    def rows(self, drawn: np.ndarray) -> np.ndarray:
        # Nothing drawn: NumPy joins no empty list.
        if self._members is None or not len(drawn):
            return drawn
        return np.concatenate([self._members[unit] for unit in drawn])


def _in_pairs(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each seed of one beside a seed of the other, so often that all count alike."""
    pairs = []
    # The least number of pairs in which every seed of either side occurs equally often.
    for number in range(math.lcm(len(first), len(second))):
        of_first = first[number % len(first)]
        of_second = second[number % len(second)]
        pairs.append((of_first, of_second))
    return pairs


def _mean_score(
    score: Score,
    predictions: Sequence[np.ndarray],
    labels: np.ndarray,
    rows: np.ndarray,
) -> float:
    chosen = [guesses[rows] for guesses in predictions]
    scores = _seed_scores(score, chosen, labels[rows])
    return float(np.mean(scores))


def _interval(
    statistic: Callable[[np.ndarray], float],
    units: int,
    resamples: int,
    seed: int,
) -> Interval:
    # Units are resampled, not predictions: every seed sees the same rows.
    return _interval_within(statistic, [units], resamples, seed)


def _interval_within(
    statistic: Callable[..., float],
    sizes: Sequence[int],
    resamples: int,
    seed: int,
) -> Interval:
    """The interval of a statistic of drawn units, each of `sizes` a sample by itself."""
    result = stats.bootstrap(
        tuple(np.arange(size) for size in sizes),
        statistic,
        n_resamples=resamples,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(
        low=float(result.low),
        high=float(result.high),
    )


def _permuted(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    units: int,
    resamples: int,
    seed: int,
) -> float:
    """Two-sided p of a statistic of two sides, between which each unit may change with its pair.

    Units of the second side are numbered on from the last of the first.
    """
    own = np.arange(units)
    # "samples": a unit may change sides with its own pair alone, as fits paired observations.
    # Not vectorized: a metric takes one array of labels at a time.
    test = stats.permutation_test(
        (own, own + units),
        statistic,
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=False,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's p of each test, in their order: below a level where `holm` rejects at that level.

    Scandinavian J. Statistics 6, 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        # What stands behind a test that failed fails as well: adjusted values never fall.
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm(p_values: Sequence[float], level: float = 0.05) -> int:
    """How many of these tests reject together at `level`, by Holm's step-down procedure.

    Scandinavian J. Statistics 6, 1979.
    """
    rejected = 0
    for p in sorted(p_values):
        # The smallest p has to pass the strictest level; what fails ends the procedure.
        if p > level / (len(p_values) - rejected):
            break
        rejected += 1
    return rejected

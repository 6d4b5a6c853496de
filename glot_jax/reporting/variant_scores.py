"""Scores of the variants of a comparison, with intervals over rows and paired tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from glot_jax.objectives import METRICS
from glot_jax.reporting.comparison import Comparison, Variant
from glot_jax.reporting.statistics import (
    Difference,
    Interval,
    Score,
    mean_deviation,
    own_rows_difference,
    own_rows_interval,
    paired_difference,
    score_interval,
)
from glot_jax.run_folders.predictions import FILE, Predictions


@dataclasses.dataclass(frozen=True)
class VariantScore:
    """The score of a variant on one split."""

    variant: str
    """Its label."""
    split: str
    mean: float
    """Over seeds, of each run's best epoch."""
    deviation: float | None
    """Over seeds; None for one seed."""
    seeds: int
    last: float
    """Mean at the last epoch, which nothing selected."""
    interval: Interval | None
    """95 % over rows; None without predictions or with too few rows, as `why` says."""
    difference: Difference | None
    """To the reference variant on the same rows, reference minus this; None as well where no seed
    of both was judged on the same ones.
    """
    selected_here: bool
    """The best epoch was chosen on this very split."""
    why: str | None
    """Why there is no interval."""
    learned: tuple[float, float | None, int] | None = None
    """Mean and deviation of the seeds that ended better than a constant answer, and how many they
    are; None where all of them have."""


def score_variants(
    comparison: Comparison,
    split: str,
    reference: str | None,
    *,
    resamples: int = 1000,
) -> list[VariantScore]:
    """Score every variant on one split, in the order of the comparison.

    Args:
        comparison: variants judged on the same rows.
        split: one of its splits.
        reference: label of the variant to which paired differences are made; None: none are.
        resamples: of each interval and each permutation test.
    """
    # None as well where the reference kept no predictions: there is nothing to pair with.
    compared_with = None
    # Labels are unique within a comparison.
    for variant in comparison.variants:
        if variant.label == reference:
            compared_with = _by_seed(variant, split)
    scores = []
    for variant in comparison.variants:
        # The difference of a variant to itself is no finding.
        against = None if variant.label == reference else compared_with
        scores.append(_score(comparison.metric, split, variant, against, resamples))
    return scores


def _by_seed(variant: Variant, split: str) -> dict[int, Predictions] | None:
    """Seed -> what its run predicted; None unless all runs kept their predictions."""
    predictions = variant.predictions(split)
    if predictions is None:
        return None
    seeds = [run.config.seed for run in variant.runs]
    return dict(zip(seeds, predictions, strict=True))


def _score(
    metric: str,
    split: str,
    variant: Variant,
    against: Mapping[int, Predictions] | None,
    resamples: int,
) -> VariantScore:
    # The same function that judged the epochs, asked about resampled rows.
    score = METRICS[metric]
    mean, deviation = mean_deviation(variant.scores(split, metric))
    # The last epoch's deviation is not shown: it is there to be compared with the best mean.
    last, _ = mean_deviation(variant.scores(split, metric, "last"))
    by_seed = _by_seed(variant, split)
    interval = None
    difference = None
    why = None
    if by_seed is None:
        why = f"no {FILE}: trained by an earlier version"
    else:
        own = list(by_seed.values())
        interval = _row_interval(score, own, resamples)
        if interval is None:
            fewest = min(len(seed.labels) for seed in own)
            why = f"{fewest} rows: too few for an interval"
        # The reference first: a positive difference says that it is the better one.
        if against is not None:
            difference = _row_difference(score, against, by_seed, resamples)
    # Beside the mean of all and never instead of it: leaving seeds out is a choice in hindsight.
    learned = None
    able = [run.summary.has_learned for run in variant.runs]
    if not all(able):
        every = variant.scores(split, metric)
        kept = [score for score, has_learned in zip(every, able, strict=True) if has_learned]
        learned = (*mean_deviation(kept), len(kept)) if kept else (0.0, None, 0)
    return VariantScore(
        variant=variant.label,
        split=split,
        mean=mean,
        deviation=deviation,
        seeds=len(variant.runs),
        last=last,
        interval=interval,
        difference=difference,
        selected_here=any(run.selected_here == split for run in variant.runs),
        why=why,
        learned=learned,
    )


def _row_interval(
    score: Score, predictions: Sequence[Predictions], resamples: int
) -> Interval | None:
    guesses = [seed.predictions for seed in predictions]
    if _have_the_same_rows(predictions):
        # Labels are those of the store, whichever seed is asked.
        labels = predictions[0].labels
        return score_interval(score, guesses, labels, resamples=resamples)
    own_labels = [seed.labels for seed in predictions]
    return own_rows_interval(score, guesses, own_labels, resamples=resamples)


def _row_difference(
    score: Score,
    reference: Mapping[int, Predictions],
    variant: Mapping[int, Predictions],
    resamples: int,
) -> Difference | None:
    first = list(reference.values())
    second = list(variant.values())
    if not _have_the_same_rows([*first, *second]):
        # A holdout follows from the seed: two poolers of one seed have the same.
        first = []
        second = []
        for seed, predictions in reference.items():
            other = variant.get(seed)
            if other is not None and _have_the_same_rows([predictions, other]):
                first.append(predictions)
                second.append(other)
        # Nobody was judged on the rows of another.
        if not first:
            return None
    first_guesses = [seed.predictions for seed in first]
    second_guesses = [seed.predictions for seed in second]
    if _have_the_same_rows([*first, *second]):
        labels = first[0].labels
        return paired_difference(score, first_guesses, second_guesses, labels, resamples=resamples)
    own_labels = [seed.labels for seed in first]
    return own_rows_difference(
        score, first_guesses, second_guesses, own_labels, resamples=resamples
    )


def _have_the_same_rows(predictions: Sequence[Predictions]) -> bool:
    """Whether all were made of the same rows of a split.

    They were not where a store has no validation split: each seed holds out rows of its own.
    """
    first = predictions[0]
    return all(np.array_equal(first.rows, other.rows) for other in predictions)

"""Scores of the variants of a comparison, with intervals over rows and paired tests."""

from __future__ import annotations

import dataclasses

from glot_jax.objectives import METRICS
from glot_jax.reporting.comparison import Comparison, Variant
from glot_jax.reporting.statistics import (
    Difference,
    Interval,
    mean_deviation,
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
    """To the reference variant on the same rows, reference minus this."""
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
            compared_with = variant.predictions(split)
    scores = []
    for variant in comparison.variants:
        # The difference of a variant to itself is no finding.
        against = None if variant.label == reference else compared_with
        scores.append(_score(comparison.metric, split, variant, against, resamples))
    return scores


def _score(
    metric: str,
    split: str,
    variant: Variant,
    against: list[Predictions] | None,
    resamples: int,
) -> VariantScore:
    # The same function that judged the epochs, asked about resampled rows.
    score = METRICS[metric]
    mean, deviation = mean_deviation(variant.scores(split, metric))
    # The last epoch's deviation is not shown: it is there to be compared with the best mean.
    last, _ = mean_deviation(variant.scores(split, metric, "last"))
    predictions = variant.predictions(split)
    interval = None
    difference = None
    why = None
    if predictions is None:
        why = f"no {FILE}: trained by an earlier version"
    else:
        # Rows and labels are the same for all seeds: they are those of the store.
        labels = predictions[0].labels
        own = [seed.predictions for seed in predictions]
        interval = score_interval(score, own, labels, resamples=resamples)
        if interval is None:
            why = f"{len(labels)} rows: too few for an interval"
        # The reference first: a positive difference says that it is the better one.
        if against is not None:
            others = [seed.predictions for seed in against]
            difference = paired_difference(score, others, own, labels, resamples=resamples)
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

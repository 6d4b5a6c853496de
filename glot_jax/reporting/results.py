"""A comparison with its statistics: what the sections of a report are made from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from glot_jax.files import read_json
from glot_jax.reporting.comparison import Comparison, Variant
from glot_jax.reporting.statistics import holm_adjusted, mean_deviation
from glot_jax.reporting.variant_scores import VariantScore, score_variants


@dataclasses.dataclass(frozen=True)
class Result:
    """A comparison, and the scores of its variants with intervals and tests."""

    comparison: Comparison
    reference: str | None
    """Label of the variant that others are compared with; None: none is a glot."""
    by_split: dict[str, list[VariantScore]]
    """Variants in the order of the comparison."""

    @classmethod
    def from_comparison(
        cls,
        comparison: Comparison,
        reference: str | None,
        resamples: int,
    ) -> Result:
        """Score every variant on every split.

        Args:
            comparison: variants judged on the same rows.
            reference: label of the variant to compare with. Default, and where no variant has this
                label: the first glot.
            resamples: of intervals and permutation tests.
        """
        labels = [variant.label for variant in comparison.variants]
        # One label is given for all tasks, and not every task has the variant.
        chosen = reference if reference in labels else _first_glot(comparison)
        # Paired tests are of the split that people look at first; of the others the tables have no
        # room for them.
        tested = min(comparison.splits, key=_is_not_test)
        by_split = {}
        for split in comparison.splits:
            compared_with = chosen if split == tested else None
            # Intervals of every split, tests of one: permutations are most of the time.
            by_split[split] = score_variants(comparison, split, compared_with, resamples=resamples)
        return cls(comparison, chosen, by_split)

    @property
    def splits(self) -> list[str]:
        """Splits, from the one that people should look at first."""
        return sorted(self.comparison.splits, key=_is_not_test)

    @property
    def metric(self) -> str:
        """Name of the metric that is reported."""
        return self.comparison.metric

    @property
    def first_scores(self) -> list[VariantScore]:
        """Scores on the first split."""
        return self.by_split[self.splits[0]]

    @property
    def best(self) -> VariantScore:
        """The highest mean on the first split; of equal ones the first."""
        # The mean over seeds, not the luckiest seed.
        return max(self.first_scores, key=lambda score: score.mean)

    @property
    def reference_score(self) -> VariantScore | None:
        """The score of the reference on the first split."""
        for score in self.first_scores:
            if score.variant == self.reference:
                return score
        return None

    @property
    def holm_p(self) -> dict[str, float]:
        """Variant -> p of its difference from the reference, after Holm over all of them.

        Variants without a test are left out. p is the larger of p over rows and p over seeds.
        """
        p_values = {}
        for score in self.first_scores:
            if score.difference is not None and score.difference.p_both is not None:
                p_values[score.variant] = score.difference.p_both
        adjusted = holm_adjusted(list(p_values.values()))
        return dict(zip(p_values, adjusted, strict=True))

    def variant(self, label: str) -> Variant:
        """The variant of this label.

        Raises:
            KeyError: no variant has it.
        """
        for variant in self.comparison.variants:
            if variant.label == label:
                return variant
        raise KeyError(label)

    def probe(
        self,
        label: str,
        split: str,
    ) -> tuple[float, float | None] | None:
        """Mean and deviation over seeds of the linear probe's accuracy.

        None where it was not fitted to all of them.
        """
        accuracies = []
        for run in self.variant(label).runs:
            # Written by `glot reproduce` beside the run.
            path = run.path / "probe.json"
            if not path.exists():
                return None
            probed = read_json(path)
            # Fitted by an earlier version, or before the store had this split.
            if split not in probed:
                return None
            # A task that is judged by another metric has an accuracy as well, if it has classes.
            accuracies.append(probed[split].get("accuracy", probed[split].get(self.metric)))
        return mean_deviation(accuracies)

    def to_json(self) -> dict[str, Any]:
        """Plain values; intervals are [low, high]."""
        variants = []
        for split, scores in self.by_split.items():
            for score in scores:
                variants.append(self._variant_json(split, score))
        comparison = self.comparison
        values = {
            "task": comparison.task,
            "backbone": comparison.backbone,
            "store": comparison.store,
            "metric": comparison.metric,
            "reference": self.reference,
            "baselines": {split: comparison.baselines(split) for split in comparison.splits},
            "variants": variants,
        }
        # Tuples become lists, as whoever reads the file will find them.
        return json.loads(json.dumps(values))

    def _variant_json(
        self,
        split: str,
        score: VariantScore,
    ) -> dict[str, Any]:
        variant = self.variant(score.variant)
        difference = None if score.difference is None else score.difference._asdict()
        return {
            **dataclasses.asdict(score),
            "difference": difference,
            "holm_p": self.holm_p.get(score.variant) if split == self.splits[0] else None,
            "parameters": variant.parameters,
            "train_seconds": variant.train_seconds,
            "seed_scores": variant.scores(split, self.comparison.metric),
            "linear_probe": self.probe(score.variant, split),
        }


def titles_of(results: Sequence[Result]) -> list[str]:
    """A name for each comparison: its task, and more where several are of one task."""
    tasks = [result.comparison.task for result in results]
    titles = []
    for result in results:
        title = result.comparison.task
        # Layers, or backbones, of one task.
        if tasks.count(title) > 1:
            title = f"{title}, {result.comparison.backbone}"
        # Stores of one backbone and layer, of other rows for example.
        if title in titles:
            title = f"{title}, {result.comparison.store[:8]}"
        titles.append(title)
    return titles


def _first_glot(comparison: Comparison) -> str | None:
    for variant in comparison.variants:
        if variant.runs[0].config.pooler.pooler == "glot":
            return variant.label
    return None


def _is_not_test(split: str) -> bool:
    """Sorts a test split before one that may have selected an epoch."""
    return not split.startswith("test")

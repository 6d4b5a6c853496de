"""Runs grouped for comparison.

Which settings tell them apart, and which of them differ by their seed alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.reporting.finished_runs import FinishedRun
from glot_jax.reporting.statistics import mean_deviation
from glot_jax.run_folders.predictions import Predictions
from glot_jax.run_folders.run_folder import CheckpointName


@dataclasses.dataclass(frozen=True)
class Variant:
    """Runs of one setting on one store, by seed."""

    label: str
    runs: tuple[FinishedRun, ...]

    def scores(
        self,
        split: str,
        metric: str,
        checkpoint: CheckpointName = "best",
    ) -> list[float]:
        """The metric of each run on a split, at its best or its last epoch."""
        scores = []
        for run in self.runs:
            by_metric = run.summary.splits[split].at(checkpoint)
            scores.append(float(by_metric[metric]))
        return scores

    @property
    def parameters(self) -> int:
        """Trained numbers of pooler and head."""
        # A seed changes no shape: the first run stands for all.
        return self.runs[0].summary.trained_parameters

    @property
    def train_seconds(self) -> float:
        """Mean over the runs."""
        seconds = [run.summary.seconds["train"] for run in self.runs]
        mean, _ = mean_deviation(seconds)
        return mean

    def predictions(self, split: str) -> list[Predictions] | None:
        """Predictions of each run; None unless all of them kept theirs."""
        kept = []
        for run in self.runs:
            if run.predictions is None or split not in run.predictions:
                return None
            kept.append(run.predictions[split])
        return kept


_MEASURED = ("buckets", "xla_cpu_options")
"""Settings that a run may have chosen for itself, by its steps and by the machine: poolers that
were trained alike differ in them.
"""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Variants trained and judged on the same rows: one task of one backbone."""

    task: str
    backbone: str
    store: str
    metric: str
    splits: tuple[str, ...]
    """Those that are reported: all but a holdout."""
    variants: tuple[Variant, ...]

    def baselines(self, split: str) -> dict[str, float]:
        """What scores without reading a token: the majority class, and the number of tokens."""
        runs = self.variants[0].runs
        baselines = {}
        for name in ("majority", "length"):
            values = []
            for run in runs:
                scores = run.summary.baselines.get(split, {})
                # Which baselines there are depends on the task and on the version.
                if name in scores:
                    values.append(scores[name][self.metric])
            # Of the same rows they are equal, and a mean could round them. Seeds with holdouts of
            # their own have baselines of their own.
            if len(set(values)) == 1:
                baselines[name] = values[0]
            elif values:
                baselines[name] = float(np.mean(values))
        return baselines


def compare_runs(
    runs: Sequence[FinishedRun],
    labels: Mapping[Path, str] | None = None,
    *,
    across_layers: bool = False,
) -> list[Comparison]:
    """Group runs by store, task and layer, and name variants by the settings in which they differ.

    Runs on prompted texts stand beside those on the same texts without a prompt.

    Args:
        runs: finished runs, in any order.
        labels: run folder -> name of its variant, where the caller has a better one.
        across_layers: layers of a backbone are variants, not comparisons of their own.
    """
    # (task, backbone and layers, store, metric) -> runs; only equals of all four are comparable.
    groups: dict[tuple[str, str, str, str], list[FinishedRun]] = {}
    unprompted = _unprompted_stores(runs)
    for run in runs:
        store = str(run.summary.store)
        if run.folder.prompt:
            # The prompt is a setting of the variant; the rows are those of the other store.
            store = unprompted.get(run.rows, store)
        backbone = run.backbone_name if across_layers else run.backbone
        group = (run.task, backbone, store, run.metric)
        groups.setdefault(group, []).append(run)
    comparisons = []
    for (task, backbone, store, metric), members in groups.items():
        variants = _variants(members, labels or {})
        # A comparison needs the same rows for all of its variants.
        splits = _common_splits(members)
        comparisons.append(Comparison(task, backbone, store, metric, splits, variants))
    return comparisons


def _unprompted_stores(runs: Sequence[FinishedRun]) -> dict[tuple[str, str], str]:
    """Rows -> the store that has them without a prompt; empty where no run is prompted."""
    # Predictions are read to compare rows, which is in vain where there is nothing to compare.
    prompts = {run.folder.prompt for run in runs}
    if prompts <= {None}:
        return {}
    stores = {}
    for run in runs:
        if not run.folder.prompt:
            stores[run.rows] = str(run.summary.store)
    return stores


def _variants(
    runs: Sequence[FinishedRun],
    labels: Mapping[Path, str],
) -> tuple[Variant, ...]:
    named: dict[str, dict[int, FinishedRun]] = {}
    for run, label in zip(runs, _labels(runs, labels), strict=True):
        by_seed = named.setdefault(label, {})
        # Of two runs of one setting and seed the first is kept: they are the same run.
        by_seed.setdefault(run.config.seed, run)
    # The caller's names come in the caller's order, before all others.
    order = [*dict.fromkeys(labels.values()), *named]
    names = sorted(named, key=order.index)
    variants = []
    for name in names:
        # By seed, so that the first run is the same one whatever order the folders came in.
        members = [run for _, run in sorted(named[name].items())]
        variants.append(Variant(name, tuple(members)))
    return tuple(variants)


def _common_splits(runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    """Splits that every run reports, without a holdout, which is of each run's own rows."""
    splits = []
    for split in runs[0].splits:
        if split != "holdout" and all(split in run.splits for run in runs):
            splits.append(split)
    return tuple(splits)


def _labels(
    runs: Sequence[FinishedRun],
    chosen: Mapping[Path, str],
) -> list[str]:
    """The name of each run's variant: its pooler, and the settings that vary among the runs."""
    # What a run reads depends on its pooler, and so do the names of its settings.
    settings = [run.settings for run in runs]
    varying = _varying(settings)
    plain = [name for name in varying if name not in _MEASURED]
    # Told only where nothing else tells two runs of one seed apart.
    if _all_differ(runs, settings, plain):
        varying = plain
    labels = []
    for run, values in zip(runs, settings, strict=True):
        # A setting that one run reads and another does not is told only of those that read it.
        parts = [values["pooler"]]
        for name in varying:
            if name in values:
                words = name.replace("_", " ")
                parts.append(f"{words} {_value_text(values[name])}")
        label = ", ".join(parts)
        labels.append(chosen.get(run.path) or label)
    return labels


def _all_differ(
    runs: Sequence[FinishedRun],
    settings: Sequence[dict[str, Any]],
    varying: Sequence[str],
) -> bool:
    """Whether no two runs of one seed are equal in the pooler and in these settings."""
    paths: dict[tuple[int, str], Path] = {}
    for run, values in zip(runs, settings, strict=True):
        told = [values["pooler"]]
        for name in varying:
            told.append(values.get(name))
        # By their texts: lists have no hash.
        key = (run.config.seed, repr(told))
        # A run that is found twice is the same run.
        if paths.setdefault(key, run.path) != run.path:
            return False
    return True


def _varying(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the settings, but the pooler, that have several values."""
    values: dict[str, set[str]] = {}
    for run_settings in settings:
        for name, value in run_settings.items():
            # By their text: lists have no hash.
            values.setdefault(name, set()).add(repr(value))
    varying = []
    for name, texts in values.items():
        # The pooler stands at the head of every label.
        if name != "pooler" and len(texts) > 1:
            varying.append(name)
    return varying


def _value_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return str(value)

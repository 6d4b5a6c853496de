"""Run folders, read for comparison: which runs there are, what tells them apart, how their scores
compare.

Everything here is read from the folders alone (config.json, summary.json, metrics.jsonl,
predictions.npz): the stores and the backbone may be gone.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from glot_jax.config.train import TrainConfig, unread_options
from glot_jax.errors import UsageError, require
from glot_jax.model import ModelSpec
from glot_jax.objectives import METRICS, selection_metric
from glot_jax.reporting.statistics import (
    Difference,
    Interval,
    mean_deviation,
    paired_difference,
    score_interval,
)
from glot_jax.training.predictions import FILE, Predictions, read_predictions
from glot_jax.training.run_folder import CheckpointName, RunFolder, Summary

_NOT_THE_VARIANT = (
    "store",
    "out",
    "seed",
    "cache",
    "trust_store",
    "checkpoint_minutes",
    "log_every",
    "eval_batch_size",
)
"""Settings that make no other variant: where a run lies, its seed, how it is fed and saved."""


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run folder with the summary that it got when it was finished."""

    folder: RunFolder
    summary: Summary

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def config(self) -> TrainConfig:
        return self.folder.config

    @property
    def model(self) -> ModelSpec:
        return self.folder.model

    @property
    def task(self) -> str:
        return self.model.task.name

    @property
    def metric(self) -> str:
        """The one its epochs were selected by."""
        return selection_metric(self.model.task, self.config.objective.metric)

    @property
    def backbone(self) -> str:
        """Name and layers."""
        name = (self.folder.backbone or "unknown backbone").rpartition("/")[2]
        return (
            f"{name}, layers {', '.join(map(str, self.model.layers))} mixed"
            if self.model.mixed
            else f"{name}, layer {self.model.layers[0]}"
        )

    @property
    def splits(self) -> list[str]:
        """Evaluation splits, in the order they are reported."""
        return list(self.summary.splits)

    @property
    def settings(self) -> dict[str, Any]:
        """What its numbers depend on and its pooler reads: dotted name -> value."""
        unread = unread_options(self.config.graph, self.config.pooler)
        flat: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self.config).items():
            if isinstance(value, dict):
                flat |= {inner: of for inner, of in value.items() if inner not in unread}
            elif name not in _NOT_THE_VARIANT:
                flat[name] = value
        return flat | {"prompt": self.folder.prompt or "none"}

    @property
    def rows(self) -> tuple[str, str]:
        """What its rows are, whatever prompt they were put in: the backbone's recipe and the labels
        of every split.
        """
        recipe = {
            name: value
            for name, value in self.folder.recipe.items()
            if name not in ("prompt", "kind")
        }
        labels = {split: of.labels.tolist() for split, of in (self.predictions or {}).items()}
        return json.dumps(recipe, sort_keys=True), (
            json.dumps(labels) if labels else str(self.summary.store)
        )

    @property
    def selected_here(self) -> str | None:
        """The reported split that also selected the epoch, which flatters its score; None where
        none did.
        """
        split = self.summary.selected_on
        if split == "holdout":
            # Without a validation split the holdout is reported under its name.
            return None if "holdout" in self.splits else "validation"
        return split if split in self.splits else None

    @functools.cached_property
    def predictions(self) -> dict[str, Predictions] | None:
        """Of its best epoch; None where the run was trained before they were kept."""
        return read_predictions(self.path) if (self.path / FILE).exists() else None

    def curve(self, split: str, metric: str) -> list[tuple[int, float]]:
        """(epoch, value) of every epoch."""
        lines = map(
            json.loads, (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        )
        return [
            (line["epoch"], line[metric])
            for line in lines
            if line["split"] == split and metric in line
        ]


def find_runs(folders: Iterable[Path]) -> tuple[list[FinishedRun], list[str]]:
    """Every finished run in or under the folders, and a line about each that could not be read as
    one.

    Raises:
        UsageError: a folder that does not exist, or no finished run in any of them.
    """
    runs, notes = [], []
    folders = list(folders)
    for folder in folders:
        require(
            folder.is_dir(),
            "runs are read from folders",
            f"{folder}, which is none",
            "Give run folders, or folders of them.",
        )
        for path in sorted({folder, *(found.parent for found in folder.rglob("config.json"))}):
            if not (path / "config.json").exists() or not (path / "metrics.jsonl").exists():
                continue
            try:
                runs.append(read_run(path))
            except UsageError as error:
                notes.append(str(error))
    if not runs:
        raise UsageError(
            "a report is of finished runs",
            f"none in {', '.join(map(str, folders))}" + "".join(f"; {note}" for note in notes),
            "Train some: train.py --out DIR/...",
        )
    return runs, notes


def read_run(path: Path) -> FinishedRun:
    """A finished run.

    Raises:
        UsageError: no run folder, one of another version, or one that is not finished.
    """
    folder = RunFolder.open(path)
    return FinishedRun(folder, folder.require_finished())


# --------------------------------------------------------------------------------------------------
# Variants: runs that differ by their seed alone


@dataclasses.dataclass(frozen=True)
class Variant:
    """Runs of one setting on one store, by seed."""

    label: str
    runs: tuple[FinishedRun, ...]

    def scores(self, split: str, metric: str, checkpoint: CheckpointName = "best") -> list[float]:
        return [float(run.summary.splits[split].at(checkpoint)[metric]) for run in self.runs]

    @property
    def parameters(self) -> int:
        return self.runs[0].summary.trained_parameters

    @property
    def train_seconds(self) -> float:
        return mean_deviation([run.summary.seconds["train"] for run in self.runs])[0]

    def predictions(self, split: str) -> list[Predictions] | None:
        found = [run.predictions for run in self.runs]
        return (
            None
            if any(of is None or split not in of for of in found)
            else [of[split] for of in found if of is not None]
        )


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
        """What scores without reading a token: the majority class, and the number of tokens. Runs
        of earlier versions know them of the split that people see first while training, and of no
        other."""
        summary = self.variants[0].runs[0].summary
        known = summary.baselines.get(split, {})
        return {name: known[name][self.metric] for name in ("majority", "length") if name in known}


def compare_runs(
    runs: Sequence[FinishedRun], labels: dict[Path, str] | None = None
) -> list[Comparison]:
    """Group runs by store, task and layer, and name variants by the settings in which they differ.

    Runs on prompted texts stand beside those on the same texts without a prompt.

    Args:
        labels: names of variants that are known better, by run folder.
    """
    groups: dict[tuple, list[FinishedRun]] = {}
    bare = (
        {run.rows: run.summary.store for run in runs if not run.folder.prompt}
        if any(run.folder.prompt for run in runs)
        else {}
    )
    for run in runs:
        store = bare.get(run.rows) if run.folder.prompt else None
        groups.setdefault(
            (run.task, run.backbone, store or run.summary.store, run.metric), []
        ).append(run)
    found = []
    for (task, backbone, store, metric), members in groups.items():
        named: dict[str, dict[int, FinishedRun]] = {}
        for run, label in zip(members, _labels(members, labels or {}), strict=True):
            # Of two runs of one setting and seed the first is kept: they are the same run.
            named.setdefault(label, {}).setdefault(run.config.seed, run)
        # Names that were given come in the order in which they were given.
        order = list(dict.fromkeys((labels or {}).values()))
        names = sorted(
            named, key=lambda label: order.index(label) if label in order else len(order)
        )
        variants = tuple(
            Variant(label, tuple(named[label][seed] for seed in sorted(named[label])))
            for label in names
        )
        splits = tuple(
            split
            for split in members[0].splits
            if split != "holdout" and all(split in run.splits for run in members)
        )
        found.append(Comparison(task, backbone, store, metric, splits, variants))
    return found


def _labels(runs: Sequence[FinishedRun], given: dict[Path, str]) -> list[str]:
    settings = [run.settings for run in runs]
    # A setting that one run reads and another does not is told only of those that read it.
    varying = [
        name
        for name in dict.fromkeys(name for of in settings for name in of)
        if name != "pooler" and len({repr(of[name]) for of in settings if name in of}) > 1
    ]
    told = []
    for run, of in zip(runs, settings, strict=True):
        parts = [f"{name.replace('_', ' ')} {_shown(of[name])}" for name in varying if name in of]
        told.append(given.get(run.path) or ", ".join([of["pooler"], *parts]))
    return told


def _shown(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else " ".join(map(str, value))
        if isinstance(value, (tuple, list))
        else str(value)
    )


# --------------------------------------------------------------------------------------------------
# Scores with intervals


@dataclasses.dataclass(frozen=True)
class Scored:
    """A variant on one split."""

    variant: str
    split: str
    mean: float
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
    """Its best epoch was chosen on this very split."""
    why: str | None


def scored(
    comparison: Comparison, split: str, reference: str | None, *, resamples: int = 1000
) -> list[Scored]:
    """Every variant on one split, with intervals over its rows and, if there is a `reference`,
    paired differences to it.
    """
    of_reference = next(
        (of.predictions(split) for of in comparison.variants if of.label == reference), None
    )
    found = []
    for variant in comparison.variants:
        mean, deviation = mean_deviation(variant.scores(split, comparison.metric))
        predictions = variant.predictions(split)
        interval, difference, why = None, None, None
        if predictions is None:
            why = f"no {FILE}: trained by an earlier version"
        else:
            score, labels = METRICS[comparison.metric], predictions[0].labels
            interval = score_interval(
                score, [of.predictions for of in predictions], labels, resamples=resamples
            )
            why = None if interval else f"{len(labels)} rows: too few for an interval"
            if of_reference is not None and variant.label != reference:
                first, second = (
                    [of.predictions for of in both] for both in (of_reference, predictions)
                )
                difference = paired_difference(score, first, second, labels, resamples=resamples)
        found.append(
            Scored(
                variant.label,
                split,
                mean,
                deviation,
                len(variant.runs),
                mean_deviation(variant.scores(split, comparison.metric, "last"))[0],
                interval,
                difference,
                any(run.selected_here == split for run in variant.runs),
                why,
            )
        )
    return found

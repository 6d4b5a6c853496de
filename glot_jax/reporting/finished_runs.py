"""Finished runs, read from their folders alone: the stores and the backbone may be gone."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glot_jax.config.base import VARIANT
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.model import ModelSpec
from glot_jax.pooling.options import unread_options
from glot_jax.run_folders.predictions import FILE, Predictions, read_predictions
from glot_jax.run_folders.run_folder import CONFIG, RunFolder, Summary
from glot_jax.texts.tasks import selection_metric

_METRICS = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run folder with the summary that it got when it was finished."""

    folder: RunFolder
    summary: Summary

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def config(self) -> TrainConfig:
        """What it was trained with."""
        return self.folder.config

    @property
    def model(self) -> ModelSpec:
        """The shapes of what was trained."""
        return self.folder.model

    @property
    def task(self) -> str:
        """Name of its task."""
        return self.model.task.name

    @property
    def metric(self) -> str:
        """The metric by which its epochs were selected."""
        return selection_metric(self.model.task, self.config.objective.metric)

    @property
    def backbone(self) -> str:
        """Name and layers of the backbone, as they are told to people."""
        if self.model.mixed:
            return f"{self.backbone_name}, layers {', '.join(map(str, self.model.layers))} mixed"
        return f"{self.backbone_name}, layer {self.model.layers[0]}"

    @property
    def backbone_name(self) -> str:
        """Name of the backbone without its owner on the Hub."""
        full_name = self.folder.backbone or "unknown backbone"
        _, _, name = full_name.rpartition("/")
        return name

    @property
    def splits(self) -> list[str]:
        """Evaluation splits, in the order they are reported."""
        return list(self.summary.splits)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings on which its numbers depend and which its pooler reads, name -> value."""
        unread = unread_options(self.config.graph, self.config.pooler)
        # Flat: a label says `tau 0.9`, not which group of settings tau is in.
        flat: dict[str, Any] = {}
        for name, value in self.config.part(VARIANT).items():
            # Names of settings are unique across their groups, as flags of the command line are.
            flat |= value if isinstance(value, dict) else {name: value}
        for name in unread:
            # What the pooler does not read makes no other variant.
            flat.pop(name, None)
        # A word for none, because it becomes part of a label.
        return flat | {"prompt": self.folder.prompt or "none"}

    @property
    def rows(self) -> tuple[str, str]:
        """What identifies its rows, whatever prompt they were put in.

        The backbone's recipe, and the labels of every split.
        """
        recipe = self.folder.recipe.to_json()
        # With a prompt the vector is read at the token that it names, noted as another kind.
        recipe.pop("prompt", None)
        recipe.pop("kind", None)
        predictions = self.predictions or {}
        labels = {}
        # Labels, because a run folder holds no texts.
        for split, kept in predictions.items():
            labels[split] = kept.labels.tolist()
        # Without predictions only runs on the very same store are known to have the same rows.
        rows = json.dumps(labels) if labels else str(self.summary.store)
        return json.dumps(recipe, sort_keys=True), rows

    @property
    def selected_here(self) -> str | None:
        """The reported split that also selected the epoch, which flatters its score, or None."""
        split = self.summary.selected_on
        if split == "holdout":
            # Without a validation split the holdout is reported under its name.
            if "holdout" in self.splits:
                return None
            return "validation"
        if split in self.splits:
            return split
        return None

    @functools.cached_property
    def predictions(self) -> dict[str, Predictions] | None:
        """Predictions of its best epoch, by split.

        None where the run was trained before they were kept.
        """
        if (self.path / FILE).exists():
            return read_predictions(self.path)
        return None

    def curve(self, split: str, metric: str) -> list[tuple[int, float]]:
        """(epoch, value) of every epoch, as far as the split has the metric."""
        points = []
        lines = (self.path / _METRICS).read_text(encoding="utf-8")
        for text in lines.splitlines():
            # Every line is whole: a run that resumes drops what a kill has cut.
            line = json.loads(text)
            if line["split"] == split and metric in line:
                points.append((line["epoch"], line[metric]))
        return points


def find_runs(folders: Iterable[Path]) -> tuple[list[FinishedRun], list[str]]:
    """Find every finished run in or under the folders.

    Beside them stands a line about each folder that could not be read as one.

    Raises:
        UsageError: a folder that does not exist, or no finished run in any of them.
    """
    # Read twice: by the search, and by the message that it found nothing.
    folders = list(folders)
    runs = []
    notes = []
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                rule="runs must be given by their folders",
                got=f"{folder}, which is not a folder",
                fix="Give run folders, or folders of them.",
            )
        for path in _run_folders(folder):
            try:
                runs.append(read_run(path))
            except UsageError as error:
                # One bad folder does not take the report from the others.
                notes.append(str(error))
    if not runs:
        raise UsageError(
            rule="a report must be of finished runs",
            got="; ".join([f"none in {', '.join(map(str, folders))}", *notes]),
            fix="Train some: train.py --out DIR/...",
        )
    return runs, notes


def _run_folders(folder: Path) -> list[Path]:
    """The folder and those below it in which a training has begun."""
    paths = {folder}
    for config in folder.rglob(CONFIG):
        paths.add(config.parent)
    begun = []
    for path in sorted(paths):
        # Exported folders have a config.json too, and no metrics.
        has_config = (path / CONFIG).exists()
        if has_config and (path / _METRICS).exists():
            begun.append(path)
    return begun


def read_run(path: Path) -> FinishedRun:
    """A finished run.

    Raises:
        UsageError: not a run folder, one of another version, or one that is not finished.
    """
    folder = RunFolder.open(path)
    return FinishedRun(folder, folder.require_finished())

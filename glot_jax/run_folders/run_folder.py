"""A run folder, opened: what it was trained with, how it ended, and its trained model."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx

from glot_jax.config.base import IDENTITY, part_of
from glot_jax.config.json import from_json, to_json
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.files import read_json, write_json
from glot_jax.health import Finding
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_files import CONFIG, FORMAT, read_config
from glot_jax.store.identity import canonical_sha256
from glot_jax.store.recipe import Recipe

SUMMARY = "summary.json"
METRICS = "metrics.jsonl"

CheckpointName = Literal["best", "last"]
"""The checkpoint of the epoch that was selected, or the latest one."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """The file of the official release that an imported run was made of."""

    file: str
    sha256: str
    gnn: str
    jk: str
    tau: float


@dataclasses.dataclass(frozen=True)
class SplitScores:
    """Metrics, the loss and the epoch (from 1) of one evaluation split."""

    best: Mapping[str, float]
    """At the epoch that was selected."""
    last: Mapping[str, float]
    """After the last epoch."""

    def at(self, checkpoint: CheckpointName) -> Mapping[str, float]:
        """Scores of the named checkpoint."""
        return self.best if checkpoint == "best" else self.last


@dataclasses.dataclass(frozen=True)
class Summary:
    """summary.json of a finished run."""

    task: str
    pooler: str
    store: str | None
    """Content of the store it was trained on; None for an imported run."""
    selected_on: str | None
    """Split that selected the best epoch: validation, holdout or last; None for an imported run."""
    splits: Mapping[str, SplitScores]
    """Evaluation splits in the order in which they are reported."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    """split -> baseline (majority, length) -> metric -> value."""
    parameters: Mapping[str, int]
    """Trained parameters of `pooler` (the stem included) and `head`."""
    seconds: Mapping[str, float]
    """Seconds to `compile`, `train` and `evaluate`; empty for an imported run."""
    health: tuple[Finding, ...] = ()
    """What looked wrong with it; none of runs that earlier versions trained."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Summary:
        """The summary that `train` returns and writes."""
        splits = {}
        for name, value in values.items():
            # Splits stand among the other entries, as version 0.1 put them.
            if isinstance(value, Mapping) and "best" in value:
                splits[name] = SplitScores(value["best"], value["last"])
        baselines = values.get("baselines")
        if baselines is None:
            baselines = _baselines_of_old(values, splits)
        return cls(
            task=values["task"],
            pooler=values["pooler"],
            store=values.get("store"),
            selected_on=values.get("selected_on"),
            splits=splits,
            baselines=baselines,
            parameters=values["parameters"],
            seconds=values.get("seconds", {}),
            health=tuple(map(Finding.from_json, values.get("health", ()))),
        )

    @property
    def has_learned(self) -> bool:
        """Whether it ended better than the answer that is the same for every row."""
        return all(finding.name != "not-learned" for finding in self.health)

    @property
    def reported_baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Baselines on the split that people look at first: the (first) validation split."""
        for name in self.splits:
            if name.startswith("validation"):
                return self.baselines.get(name, {})
        return {}

    @property
    def trained_parameters(self) -> int:
        """Trained parameters of stem, pooler and head together."""
        return sum(self.parameters.values())

    @property
    def selecting(self) -> SplitScores:
        """Scores on the split that selected the epoch.

        They are those of validation where the last epoch was taken unselected.
        """
        if self.selected_on is not None and self.selected_on in self.splits:
            return self.splits[self.selected_on]
        # The holdout of a store without a validation split is reported as "validation".
        validation = next(name for name in self.splits if name.startswith("validation"))
        return self.splits[validation]


def _baselines_of_old(
    values: Mapping[str, Any],
    splits: Collection[str],
) -> dict[str, dict[str, Any]]:
    """Baselines of a summary from before 0.2.

    It has those of one split only: the first that is reported, which a holdout is not.
    """
    scores = {}
    for name in ("majority", "length"):
        if name in values:
            scores[name] = values[name]
    for split in splits:
        if split != "holdout":
            return {split: scores}
    return {}


@dataclasses.dataclass(frozen=True)
class SavedCheckpoint:
    """Where a checkpoint stands in its run."""

    step: int
    epoch: int | None
    """The epoch that ended with it, from 1; None of one that was saved within an epoch, and of an
    imported run.
    """


def _ended_epochs(metrics: Path) -> dict[int, int]:
    """Step -> the epoch that ended with it, by the scores of metrics.jsonl."""
    epochs: dict[int, int] = {}
    # An imported run has no log.
    if not metrics.exists():
        return epochs
    for line in metrics.read_bytes().splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            # What a kill or a full disk has cut.
            continue
        # Scores are written when an epoch has ended, losses within it as well.
        if isinstance(values, dict) and values.get("split", "train") != "train":
            epochs[values["step"]] = values["epoch"]
    return epochs


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """What config.json of a run folder says. This class is its only reader and writer.

    The folder also holds summary.json once the run is finished, metrics.jsonl and timing.jsonl
    (`run_log`), predictions.npz (`predictions`) and checkpoints/ (`checkpoint`).
    """

    path: Path
    config: TrainConfig
    model: ModelSpec
    """Everything that fixes the shapes of the trained model."""
    store: str | None
    """Content of the store it was trained on; None for an imported run."""
    recipe: Recipe
    """How the states of that store were made; empty for an imported run."""
    unused: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options that were given and that the pooler does not read."""
    imported: Imported | None = None
    plugins: tuple[str, ...] = ()
    """Names of the plugins whose parts it has."""
    temperature: float | None = None
    """What logits are divided by before they become probabilities; None: it was not calibrated."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Read config.json.

        Raises:
            UsageError: `path` is not a run folder, or one of another version, or its config.json
                was damaged.
        """
        path = Path(path)
        return cls.from_values(path, read_config(path))

    @classmethod
    def from_values(cls, path: Path, values: Mapping[str, Any]) -> RunFolder:
        """What the values of a config.json say; `path` is where it lies.

        Raises:
            UsageError: they were damaged.
        """
        imported = None
        try:
            if values.get("imported") is not None:
                imported = from_json(Imported, values["imported"])
            return cls(
                path=path,
                config=from_json(TrainConfig, values["config"]),
                model=ModelSpec.from_json(values["model"]),
                store=values.get("store"),
                recipe=Recipe.from_json(values.get("recipe") or {}),
                unused=values.get("unused") or {},
                imported=imported,
                plugins=tuple(values.get("plugins", ())),
                temperature=_temperature(path, values.get("temperature")),
            )
        except (KeyError, TypeError) as error:
            raise UsageError(
                rule=f"{CONFIG} of a run folder must hold what train.py wrote",
                got=f"{path / CONFIG}: {type(error).__name__} {error}",
                fix="Restore the file, or train again.",
            ) from error

    def to_json(self) -> dict[str, Any]:
        """The values of config.json."""
        values = {
            "format": FORMAT,
            "config": to_json(self.config),
            "model": self.model.to_json(),
            "store": self.store,
            "recipe": self.recipe.to_json(),
            "unused": self.unused,
        }
        # Absent where there are none, so that older versions read the folder.
        if self.plugins:
            values["plugins"] = list(self.plugins)
        if self.imported is not None:
            values["imported"] = to_json(self.imported)
        if self.temperature is not None:
            values["temperature"] = self.temperature
        return values

    def write(self) -> None:
        """Put config.json into the folder, whole or not at all.

        Raises:
            UsageError: the folder cannot be written to.
        """
        write_json(self.path / CONFIG, self.to_json())

    def digest(self) -> str:
        """sha256 of config.json as it lies there, without the paths of this machine."""
        # Read again: a config.json of an earlier version lacks fields that `to_json` would add.
        values = read_json(self.path / CONFIG)
        config = part_of(TrainConfig, values["config"], IDENTITY)
        return canonical_sha256({**values, "config": config})

    @property
    def prompt(self) -> str | None:
        """Template that the texts of its store were put in."""
        return self.recipe.prompt

    @property
    def backbone(self) -> str | None:
        """Name of the frozen language model; None for an imported run."""
        return self.recipe.backbone_name

    def require_head(self) -> None:
        """Refuse an imported run, which has neither a task's head nor a backbone.

        Raises:
            UsageError: the run was imported.
        """
        if self.imported is None:
            return
        raise UsageError(
            rule="the run must have been trained here, with a task's head on a backbone's states",
            got=f"{self.path}, imported without either",
            fix=(
                f"Train one: train.py --config {self.path}/{CONFIG} --store STORE --out NEW. Its"
                " pooler alone can be exported (glot export --to onnx) and used from Python"
                " (glot_jax.training.evaluation.load_model)."
            ),
        )

    def require_finished(self) -> Summary:
        """The summary of a finished run.

        Raises:
            UsageError: the run is not finished, or its summary is damaged.
        """
        path = self.path / SUMMARY
        if not path.is_file():
            raise UsageError(
                rule=f"a run must be finished, and has a {SUMMARY} then",
                got=f"{self.path}, which has none",
                fix=f"Finish it: train.py --resume {self.path}.",
            )
        values = read_json(path)
        try:
            return Summary.from_json(values)
        # Edited by hand, or from a stranger.
        except (AttributeError, KeyError, TypeError) as error:
            raise UsageError(
                rule=f"{SUMMARY} must be what training wrote",
                got=f"{path}: {type(error).__name__}: {error}",
                fix=f"Delete it; train.py --resume {self.path} writes it again.",
            ) from error

    def new_model(self) -> SentenceModel:
        """Stem, pooler and head of the run's shapes, untrained."""
        return SentenceModel(
            self.model,
            graph=self.config.graph,
            pooler=self.config.pooler,
            objective=self.config.objective,
            rngs=nnx.Rngs(self.config.seed),
        )

    def load_model(self, checkpoint: CheckpointName = "best") -> SentenceModel:
        """Stem, pooler and head of a checkpoint; needs the folder alone, no store.

        Raises:
            UsageError: no such checkpoint.
        """
        graphdef, params, stats = split_model(self._shapes_of_model())
        like = {"params": params, "stats": stats}
        arrays = self.load_arrays(like, checkpoint)
        return nnx.merge(graphdef, arrays["params"], arrays["stats"])

    def _shapes_of_model(self) -> SentenceModel:
        """The model with shapes instead of arrays, which are all read from the checkpoint."""
        try:
            # Drawing initial values would compile a program for each shape: seconds, for nothing.
            return nnx.eval_shape(self.new_model)
        except jax.errors.JAXTypeError:
            # A plugin's part may look at the values that it draws.
            return self.new_model()

    def load_arrays(
        self,
        like: dict[str, Any],
        checkpoint: CheckpointName,
    ) -> dict[str, Any]:
        """`params` and `stats` of a checkpoint, in the shapes and the placement of `like`.

        Raises:
            UsageError: the run has no checkpoint; or none that could be the best, because no epoch
                is finished.
        """
        # As a reader: a run that is being trained keeps its save in flight.
        with Checkpoints(self.path) as checkpoints:
            last = checkpoints.latest_step
            if last is None:
                raise UsageError(
                    rule="the run must have a checkpoint",
                    got=f"{self.path}, which has none",
                    fix=f"Train it: train.py --resume {self.path}.",
                )
            step = checkpoints.best_step if checkpoint == "best" else last
            if step is None:
                raise UsageError(
                    rule="the best checkpoint must be that of a finished epoch",
                    got=(
                        f"{self.path}, where none is finished: its last checkpoint, of step {last},"
                        " is from within one"
                    ),
                    fix=(
                        "Read it with --checkpoint last, or go on with train.py --resume"
                        f" {self.path}."
                    ),
                )
            return checkpoints.load_model(step, like)

    def saved_checkpoints(self) -> dict[CheckpointName, SavedCheckpoint]:
        """Where the best and the last checkpoint of the run stand; empty without any.

        Raises:
            UsageError: one whose record is damaged, which might be the best.
        """
        with Checkpoints(self.path) as checkpoints:
            steps: dict[CheckpointName, int | None] = {
                "best": checkpoints.best_step,
                "last": checkpoints.latest_step,
            }
        epochs = _ended_epochs(self.path / METRICS)
        saved: dict[CheckpointName, SavedCheckpoint] = {}
        for name, step in steps.items():
            # Before the end of the first epoch there is no best one.
            if step is not None:
                saved[name] = SavedCheckpoint(step, epochs.get(step))
        return saved

    def fits(self, recipe: Recipe) -> list[str]:
        """How states made by `recipe` differ from those that the head was trained on, a line each.

        An imported run does not know how its states were made, and fits any.
        """
        # Nothing is known of the states that an imported head was trained on.
        if not self.recipe.to_json():
            return []
        return self.recipe.explain_states(recipe, self.model.layers)


def _temperature(path: Path, value: object) -> float | None:
    """The temperature of a config.json, which anybody may have written."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(
            rule=f"temperature of a {CONFIG} must be a positive number",
            got=f"{path / CONFIG}: {value!r}",
            fix="Restore the file, or train again.",
        )
    return float(value)

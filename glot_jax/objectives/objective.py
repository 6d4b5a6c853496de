"""What a pooled vector is trained and judged on: the protocol of an objective, and their table."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.moved import moved_name
from glot_jax.objectives.baselines import Baselines
from glot_jax.objectives.classes import Classes, PairClasses
from glot_jax.objectives.heads import Head
from glot_jax.objectives.metrics import JudgedFeed, Outputs, Predictions, score
from glot_jax.objectives.multilabel import MultiLabel, PairMultiLabel
from glot_jax.objectives.ranking import Ranking
from glot_jax.objectives.scores import Scores, Similarity
from glot_jax.registry import Registry
from glot_jax.texts.tasks import TaskSpec


@runtime_checkable
class Objective(Protocol):
    """One kind of task, made for one task and its settings.

    A new one is one file and an entry in `OBJECTIVES`: the trainer asks these members only.

    Attributes:
        reads: fields of ObjectiveConfig that it reads; others that were given are reported.
        metrics: names of METRICS that tasks of this kind are judged by.
        feeds: name in `batches.feed_kinds.FEEDS` of how rows become batches.
        judged_by: what `judge` is given for every row of a feed, in the order of the plan:
            `outputs` of the head with their losses, or `vectors` (the head's `features`).
        own_options: may be left out. Settings that it brings along, read by
            `own_options.from_own(config.own)`: flags of `train.py` once its plugin is named.

    It may have what `Weighed` (--class-weight) and `temperature.Calibrated` (--calibrate) ask for,
    and `ConstantLoss`, by which a head that has not learned is told.
    """

    reads: ClassVar[frozenset[str]]
    metrics: ClassVar[tuple[str, ...]]
    feeds: ClassVar[str]
    judged_by: ClassVar[str]

    def __init__(self, task: TaskSpec, config: ObjectiveConfig) -> None: ...

    @property
    def task(self) -> TaskSpec:
        """The task of the store."""
        ...

    @property
    def config(self) -> ObjectiveConfig:
        """The settings, of which it reads no other field than `reads`."""
        ...

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """Whether it is for tasks of this kind; one objective of the table must be."""
        ...

    @property
    def texts_per_row(self) -> int:
        """Texts of a training row, which the head gets side by side."""
        ...

    def head(
        self,
        pooled_dim: int,
        rngs: nnx.Rngs,
    ) -> Head:
        """The head on top: pooled [texts_per_row, batch, pooled_dim] -> outputs [batch, ...]."""
        ...

    def loss(self, outputs: Array, labels: Array) -> Array:
        """[batch] float32 from the head's outputs and the labels of a batch."""
        ...

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """What the metrics take, [rows, ...] on the host, from the head's outputs."""
        ...

    def judge(
        self,
        feed: JudgedFeed,
        outputs: Outputs,
    ) -> tuple[dict[str, float], Predictions]:
        """Scores and predictions of a split.

        Args:
            feed: the split's feed, of the kind that `feeds` names.
            outputs: what `judged_by` says.

        Returns:
            The task's metrics and `loss` by name; and what was predicted.
        """
        ...

    def baselines(self, train: JudgedFeed, split: JudgedFeed) -> Baselines:
        """What scores on a split without reading a token, from the feeds of train and split."""
        ...


@runtime_checkable
class Weighed(Protocol):
    """An objective that weighs the loss of each class by how rare it is."""

    def balanced_weights(self, labels: np.ndarray) -> np.ndarray:
        """[classes] positive, from the labels of the training rows as the store has them."""
        ...


@runtime_checkable
class ConstantLoss(Protocol):
    """An objective with an answer that is the best of those that are the same for every row."""

    def constant_loss(self, labels: np.ndarray) -> float:
        """Its mean loss over training rows, from their labels as the store has them."""
        ...


OBJECTIVES: Registry[type[Objective]] = Registry("objective (--objective)")
"""Objectives by name; the first that fits a task is its own."""

# Here and not by decorators: the modules of the objectives know nothing of this table.
OBJECTIVES.register("single")(Classes)
OBJECTIVES.register("pair")(PairClasses)
OBJECTIVES.register("multilabel")(MultiLabel)
OBJECTIVES.register("pair-multilabel")(PairMultiLabel)
OBJECTIVES.register("similarity")(Similarity)
OBJECTIVES.register("regression")(Scores)
OBJECTIVES.register("embedding")(Ranking)


def objective_kind(
    spec: TaskSpec,
    config: ObjectiveConfig | None = None,
) -> str:
    """Name in OBJECTIVES of the objective of a task.

    Args:
        spec: the task.
        config: may name one of those that fit. Default: the first that fits.

    Raises:
        UsageError: a task without labels, one that no objective fits, or an objective that does
            not fit it.
    """
    # No objective fits such a task either, but what helps here is another store.
    if spec.label_kind == "none":
        raise UsageError(
            rule="training needs labels",
            got=f"task {spec.name!r}, stored without",
            fix="Extract with --label-column, or use another store.",
        )
    # In the order of the table: an entry of somebody else may stand before ours.
    fitting = [name for name, objective in OBJECTIVES.items() if objective.fits(spec)]
    if config is not None and config.objective != "auto":
        lookup(OBJECTIVES, config.objective, "objective (--objective)")
        if config.objective not in fitting:
            raise UsageError(
                rule="--objective must be one for tasks of this kind",
                got=f"--objective {config.objective} with task {spec.name!r}",
                fix=f"For it: {', '.join(fitting)}.",
            )
        return config.objective
    if fitting:
        return fitting[0]
    raise UsageError(
        rule="a task needs an objective that fits it",
        got=f"task {spec.name!r} with labels of kind {spec.label_kind}",
        fix=f"There are objectives for {', '.join(OBJECTIVES)}.",
    )


def objective_for(task: TaskSpec, config: ObjectiveConfig) -> Objective:
    """The objective that fits a task. UsageError as in `objective_kind`."""
    kind = objective_kind(task, config)
    return OBJECTIVES[kind](task, config)


def evaluate(
    outputs: np.ndarray,
    labels: np.ndarray,
    spec: TaskSpec,
) -> dict[str, float]:
    """The task's metrics, by name, from model outputs [rows, out] and labels [rows]."""
    # No setting decides how outputs are read, only how they come about.
    objective = objective_for(spec, ObjectiveConfig())
    predictions = objective.predict(outputs)
    return score(predictions, labels, spec.metrics)


def row_loss(
    outputs: Array,
    batch: TokenBatch,
    objective: Objective | TaskSpec,
) -> Float[Array, " batch"]:
    """Loss of every row, 0 for rows that only fill a partial batch."""
    if isinstance(objective, TaskSpec):
        objective = objective_for(objective, ObjectiveConfig())
    losses = objective.loss(outputs, batch.labels)
    # A filling row repeats a real one, whose loss would count twice.
    return jnp.where(batch.row_mask, losses, 0)


def __getattr__(name: str) -> object:
    """Names that stood here in version 0.1."""
    homes = {
        "ModelSpec": "model",
        "SentenceModel": "model",
        "length_baseline": "objectives.baselines",
        "majority": "objectives.baselines",
        "selection_metric": "texts.tasks",
    }
    return moved_name(__name__, name, homes)

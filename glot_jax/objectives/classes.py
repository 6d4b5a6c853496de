"""Classes: a softmax over the classes of a task, for rows of one text or more."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from glot_jax.config.train import ObjectiveConfig
from glot_jax.objectives.baselines import Baselines, row_baselines
from glot_jax.objectives.heads import FeatureHead, Head
from glot_jax.objectives.losses import cross_entropy
from glot_jax.objectives.metrics import JudgedFeed, Outputs, Predictions, judge_rows
from glot_jax.objectives.probabilities import softmax
from glot_jax.objectives.temperature import fit_temperature
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class Classes:
    """The class of a row of one text: `softmax(W z + b)`, cross-entropy, argmax."""

    task: TaskSpec
    config: ObjectiveConfig

    reads: ClassVar[frozenset[str]] = frozenset({"class_weight", "class_weights"})
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "mcc", "f1")
    feeds: ClassVar[str] = "rows"
    judged_by: ClassVar[str] = "outputs"

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task with classes for rows of one text."""
        if task.label_kind != "classes":
            return False
        return len(task.roles) == 1

    @property
    def texts_per_row(self) -> int:
        """Texts of a row: one for each role."""
        return len(self.task.roles)

    def head(
        self,
        pooled_dim: int,
        rngs: nnx.Rngs,
    ) -> Head:
        """A linear map to one logit per class."""
        return FeatureHead(
            pooled_dim,
            self.texts_per_row,
            len(self.task.classes),
            # Of one text both combinations are that text.
            features=self.config.pair_features,
            rngs=rngs,
        )

    def loss(
        self,
        outputs: Float[Array, "batch classes"],
        labels: Shaped[Array, " batch"],
    ) -> Float[Array, " batch"]:
        """Cross-entropy of every row, times the weight of its class."""
        return cross_entropy(outputs, labels, self.config.class_weights)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """[rows] int: the class with the largest logit."""
        # The first of equal logits: a model that tells nothing apart predicts one class.
        return outputs.argmax(1)

    def judge(
        self,
        feed: JudgedFeed,
        outputs: Outputs,
    ) -> tuple[dict[str, float], Predictions]:
        """The task's metrics and the mean loss; `feed.labels` are those of the split's rows."""
        predictions = self.predict(outputs.values)
        # In the order of the plan, as the outputs are.
        labels = feed.labels[outputs.rows]
        return judge_rows(outputs, predictions, labels, self.task.metrics)

    def baselines(self, train: JudgedFeed, split: JudgedFeed) -> Baselines:
        """See `baselines.row_baselines`."""
        return row_baselines(train, split, self.task)

    def balanced_weights(self, labels: np.ndarray) -> np.ndarray:
        """[classes]: n / (classes x rows of the class), as scikit-learn balances; 1 without rows.

        Args:
            labels: [rows] class indices.
        """
        count = len(self.task.classes)
        counts = np.bincount(labels.astype(np.int64), minlength=count)
        return np.where(counts > 0, counts.sum() / (count * np.maximum(counts, 1)), 1.0)

    def constant_loss(self, labels: np.ndarray) -> float:
        """Mean loss of the best answer that is the same for every row: the classes' entropy.

        Args:
            labels: [rows] class indices.
        """
        counts = np.bincount(labels.astype(np.int64), minlength=len(self.task.classes))
        mass = counts * np.asarray(self.config.class_weights or np.ones(len(counts)))
        # A class without rows is never the answer, and adds nothing.
        mass = mass[mass > 0]
        return float(-(mass * np.log(mass / mass.sum())).sum() / len(labels))

    def temperature(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """See `temperature.fit_temperature`."""
        truth = np.eye(outputs.shape[1])[labels]
        return fit_temperature(outputs, truth, softmax)


@dataclasses.dataclass(frozen=True)
class PairClasses(Classes):
    """The class of a row of two texts or more: `softmax(W [z_a ; z_b] + b)`."""

    # Of one text the setting changes nothing, so Classes does not read it.
    reads: ClassVar[frozenset[str]] = Classes.reads | {"pair_features"}

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task with classes for rows of several texts."""
        if task.label_kind != "classes":
            return False
        return len(task.roles) > 1

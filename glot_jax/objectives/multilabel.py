"""Several classes a row: a sigmoid for each, judged by F1 (micro, macro) and average precision."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float, Shaped

from glot_jax.objectives.baselines import Baselines, multilabel_baselines
from glot_jax.objectives.classes import Classes
from glot_jax.objectives.losses import binary_cross_entropy
from glot_jax.objectives.metrics import JudgedFeed
from glot_jax.objectives.probabilities import sigmoid
from glot_jax.objectives.temperature import fit_temperature
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class MultiLabel(Classes):
    """Any number of classes for a row of one text: `sigmoid(W z + b)`, binary cross-entropy.

    A class is predicted where its probability is above .5, that is where its logit is positive.
    """

    metrics: ClassVar[tuple[str, ...]] = ("f1_micro", "f1_macro", "average_precision")

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task with several classes a row, of one text."""
        return task.label_kind == "multilabel" and len(task.roles) == 1

    def loss(
        self,
        outputs: Float[Array, "batch classes"],
        labels: Shaped[Array, "batch classes"],
    ) -> Float[Array, " batch"]:
        """Mean over the classes of their cross-entropies, weighted where the row has the class."""
        return binary_cross_entropy(outputs, labels, self.config.class_weights)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """[rows, classes]: the logits; those above 0 are predicted, and all of them are ranked."""
        # Not yes and no: average precision needs the order of the rows.
        return outputs

    def baselines(self, train: JudgedFeed, split: JudgedFeed) -> Baselines:
        """See `baselines.multilabel_baselines`."""
        return multilabel_baselines(train, split, self.task)

    def balanced_weights(self, labels: np.ndarray) -> np.ndarray:
        """[classes]: rows without the class for each row with it, as torch's `pos_weight` takes it.

        1 for a class that all rows have, or none.

        Args:
            labels: [rows, classes], 1 for every class of a row.
        """
        having = labels.astype(np.int64).sum(axis=0)
        # Neither is divided by where it is 0: such a class has nothing to balance.
        lacking = len(labels) - having
        differ = (having > 0) & (lacking > 0)
        return np.where(differ, lacking / np.maximum(having, 1), 1.0)

    def constant_loss(self, labels: np.ndarray) -> float:
        """Mean loss of the best answer that is the same for every row.

        Args:
            labels: [rows, classes], 1 for every class of a row.
        """
        having = labels.astype(np.int64).sum(axis=0)
        lacking = len(labels) - having
        mass = having * np.asarray(self.config.class_weights or np.ones(len(having)))
        total = mass + lacking
        losses = np.zeros(len(having))
        for part in (mass, lacking):
            # The logarithm of 1 where a part is empty: it adds nothing.
            losses -= part * np.log(np.where(part > 0, part / total, 1))
        return float(losses.mean() / len(labels))

    def temperature(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """One temperature over the sigmoids of all classes; see `temperature.fit_temperature`."""
        return fit_temperature(outputs, labels, sigmoid)


@dataclasses.dataclass(frozen=True)
class PairMultiLabel(MultiLabel):
    """Any number of classes for a row of two texts or more: `sigmoid(W [z_a ; z_b] + b)`."""

    # As for PairClasses.
    reads: ClassVar[frozenset[str]] = Classes.reads | {"pair_features"}

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task with several classes a row, of several texts."""
        return task.label_kind == "multilabel" and len(task.roles) > 1

"""Scores: a number for a row, learned by squared error on [0, 1]."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from glot_jax.config.train import ObjectiveConfig
from glot_jax.objectives.baselines import Baselines, row_baselines
from glot_jax.objectives.heads import CosineHead, FeatureHead, Head
from glot_jax.objectives.losses import squared_error
from glot_jax.objectives.metrics import JudgedFeed, Outputs, Predictions, judge_rows
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class Scores:
    """A score for a row, by a linear map of its texts' vectors."""

    task: TaskSpec
    config: ObjectiveConfig

    reads: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[tuple[str, ...]] = ("spearman", "pearson")
    feeds: ClassVar[str] = "rows"
    judged_by: ClassVar[str] = "outputs"

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task with scores that is not one of similarity."""
        if task.label_kind != "regression":
            return False
        return not task.is_similarity

    @property
    def texts_per_row(self) -> int:
        """Texts of a row: one for each role."""
        return len(self.task.roles)

    def head(
        self,
        pooled_dim: int,
        rngs: nnx.Rngs,
    ) -> Head:
        """A linear map to one score."""
        return FeatureHead(
            pooled_dim,
            self.texts_per_row,
            1,
            # More than two texts cannot interact; the head refuses it.
            features=self.config.pair_features,
            rngs=rngs,
        )

    @property
    def _range(self) -> tuple[float, float]:
        # Stores of early versions know no range: their scores are taken as they are.
        return self.task.label_range or (0.0, 1.0)

    def loss(
        self,
        outputs: Float[Array, "batch 1"],
        labels: Shaped[Array, " batch"],
    ) -> Float[Array, " batch"]:
        """Squared error of every row, labels scaled to [0, 1]."""
        return squared_error(outputs, labels, self._range)

    def constant_loss(self, labels: np.ndarray) -> float:
        """Mean loss of the best answer that is the same for every row: the labels' variance."""
        low, high = self._range
        return float(np.var((labels.astype(np.float64) - low) / (high - low)))

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """[rows] scores on the task's own scale."""
        low, high = self._range
        # Not clipped to the range: a correlation would see the edge.
        width = high - low
        return outputs[:, 0] * width + low

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


@dataclasses.dataclass(frozen=True)
class Similarity(Scores):
    """A score for two texts: the cosine of their projected vectors (STS-B)."""

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task with scores for rows of two texts."""
        return task.is_similarity

    def head(
        self,
        pooled_dim: int,
        rngs: nnx.Rngs,
    ) -> Head:
        """One trained projection for both texts."""
        return CosineHead(pooled_dim, rngs=rngs)

"""Rankings: vectors that are compared, learned by InfoNCE and judged query by query."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from glot_jax.config.train import ObjectiveConfig
from glot_jax.objectives.baselines import Baselines, query_baselines
from glot_jax.objectives.heads import EmbeddingHead, Head
from glot_jax.objectives.losses import info_nce
from glot_jax.objectives.metrics import JudgedFeed, Outputs, Predictions, score
from glot_jax.objectives.query_metrics import RANKING, query_loss, query_scores
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Task `embedding`: a query's relevant texts should be closer to it than all others.

    A training row is a query, one of its relevant texts and some hard negatives; a split is judged
    by the vectors of its distinct texts.
    """

    task: TaskSpec
    config: ObjectiveConfig

    reads: ClassVar[frozenset[str]] = frozenset(
        {"embedding_head", "embedding_vectors", "loss_temperature", "hard_negatives"}
    )
    metrics: ClassVar[tuple[str, ...]] = RANKING
    feeds: ClassVar[str] = "queries"
    judged_by: ClassVar[str] = "vectors"

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        """A task whose rows are a query with relevant and other texts."""
        return task.label_kind == "ranking"

    @property
    def texts_per_row(self) -> int:
        """Texts of a training row: query, positive and hard negatives.

        There are as many as asked for, or none where the store has none.
        """
        # Columns of the query, of the relevant and, where there are any, of the other texts.
        has_negatives = len(self.task.text_columns) > 2
        if not has_negatives:
            return 2
        return 2 + self.config.hard_negatives

    def head(
        self,
        pooled_dim: int,
        rngs: nnx.Rngs,
    ) -> Head:
        """The vectors themselves, or a trained linear map of them."""
        return EmbeddingHead(
            pooled_dim,
            self.texts_per_row,
            self.config,
            rngs=rngs,
        )

    def loss(
        self,
        outputs: Float[Array, "batch candidates"],
        labels: Int[Array, "batch slots"],
    ) -> Float[Array, " batch"]:
        """Symmetric InfoNCE of every row."""
        return info_nce(outputs, labels)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Scores of every query, as they are."""
        # `judge` makes them of vectors; the metrics take what it made.
        return outputs

    def judge(
        self,
        feed: JudgedFeed,
        outputs: Outputs,
    ) -> tuple[dict[str, float], Predictions]:
        """Metrics averaged over the queries of a split, and their mean `query_loss`.

        Args:
            feed: a `batches.ranking_feed.TextFeed`: `rankings(vectors)` and `judged_rows`.
            outputs: vectors of its texts.

        Returns:
            The scores by name; and the scores [queries, 3] of every query, with the number of its
            relevant texts.
        """
        scores = []
        losses = []
        relevant_texts = []
        temperature = self.config.loss_temperature
        vectors = outputs.by_row()
        for similarity, relevant in feed.rankings(vectors):
            scores.append(query_scores(similarity, relevant))
            # The loss that training would have: similarities by the same temperature.
            losses.append(query_loss(similarity / temperature, relevant))
            relevant_texts.append(int(relevant.sum()))
        table = np.stack(scores)
        labels = np.array(relevant_texts, np.int32)
        metrics = score(table, labels, RANKING)
        metrics["loss"] = float(np.mean(losses))
        return metrics, Predictions(table, labels, feed.judged_rows)

    def baselines(self, train: JudgedFeed, split: JudgedFeed) -> Baselines:
        """See `baselines.query_baselines`."""
        return query_baselines(train, split)

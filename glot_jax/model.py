"""The whole trained model: stem, pooler and head, and what fixes its shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.graphs import Stem, TokenGraph
from glot_jax.objectives.heads import EmbeddingHead, FeatureHead, pair_features
from glot_jax.objectives.objective import OBJECTIVES, objective_kind, slots_of
from glot_jax.pooling import POOLERS
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes the shapes of a trained head; saved in config.json so that a checkpoint
    needs no store.
    """

    dim: int
    """Width of the token states."""
    layers: tuple[int, ...]
    """Layers of the backbone they come from, 0 .. L: one, or those that are mixed."""
    mixed: bool
    """Batches have an axis of layers, which the stem weighs away."""
    kind: str
    """encoder | decoder: what `cls` pooling takes."""
    task: TaskSpec

    def to_json(self) -> dict[str, Any]:
        return {
            "dim": self.dim,
            "layers": list(self.layers),
            "mixed": self.mixed,
            "kind": self.kind,
            "task": self.task.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        return cls(
            values["dim"],
            tuple(values["layers"]),
            values["mixed"],
            values["kind"],
            TaskSpec.from_json(values["task"]),
        )


class SentenceModel(nnx.Module):
    """Stem + pooler + head: a batch of token states -> outputs of the task. A task without labels
    has no head.

    Poolers that ignore edges get the `self` rule, so that no similarity is ever computed for them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        graph: GraphConfig,
        pooler: PoolerConfig,
        objective: ObjectiveConfig,
        rngs: nnx.Rngs,
    ):
        pooler_class = lookup(POOLERS, pooler.pooler, "pooler (--pooler)")
        if not pooler_class.uses_edges:
            graph = dataclasses.replace(graph, graph="self", backend="dense", learn_tau=False)
        self.roles = slots_of(spec.task, objective)
        """Texts of a row."""
        self.stem = Stem(
            spec.dim,
            config=graph,
            layers=len(spec.layers) if spec.mixed else None,
            standardise=pooler.standardise,
            dropout=pooler.dropout,
            projection_dim=pooler.projection_dim,
            dtype=pooler.dtype,
            rngs=rngs,
        )
        self.pooler = pooler_class.from_config(
            self.stem.node_dim, pooler, kind=spec.kind, rngs=rngs
        )
        labelled = spec.task.label_kind != "none"
        build = (
            lookup(OBJECTIVES, objective_kind(spec.task), "objective").head if labelled else None
        )
        self.head = (
            None if build is None else build(self.pooler.pooled_dim, spec.task, objective, rngs)
        )

    def graph(self, batch: TokenBatch, **options: Any) -> TokenGraph:
        """`options` are the Stem's: edge_budget, train, progress, rngs."""
        return self.stem(batch.hidden, batch.mask, **options)

    def outputs(
        self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch out"]:
        """Logits [batch, classes], scores [batch, 1] or similarities [batch, candidates]; rows are
        the texts divided by the roles of a row.
        """
        if self.head is None:
            raise UsageError(
                "outputs come from a task's head",
                "a model without one, such as an imported one",
                "Train one, or use its pooler alone.",
            )
        with jax.named_scope("pooler"):
            pooled = self.pooler(graph, train=train, rngs=rngs)
        return self.head(pooled.reshape(self.roles, -1, pooled.shape[-1]))  # type: ignore[operator]

    def vectors(self, graph: TokenGraph) -> Float[Array, "texts width"]:
        """A vector of every text, float32: the pooled one, or, of an embedding, what is compared
        with others.
        """
        pooled = self.pooler(graph).astype(jnp.float32)
        return self.head.vectors(pooled) if isinstance(self.head, EmbeddingHead) else pooled

    def features(self, graph: TokenGraph) -> Float[Array, "batch width"]:
        """What a classifier's head multiplies: the vectors of a row's texts, side by side as the
        head has them. Of an embedding, whose texts stand alone, `vectors`."""
        if isinstance(self.head, EmbeddingHead):
            return self.vectors(graph)
        pooled = self.pooler(graph)
        kind = self.head.features if isinstance(self.head, FeatureHead) else "concat"
        return pair_features(pooled.reshape(self.roles, -1, pooled.shape[-1]), kind)

    def __call__(
        self, batch: TokenBatch, *, edge_budget: int | None = None, train: bool = False
    ) -> Array:
        return self.outputs(self.graph(batch, edge_budget=edge_budget), train=train)

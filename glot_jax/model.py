"""The whole trained model: stem, pooler and head, and what fixes its shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.graphs import Stem, StemNumbers, TokenGraph
from glot_jax.objectives.heads import Head, row_vectors
from glot_jax.objectives.objective import Objective, objective_for, row_loss
from glot_jax.pooling import POOLERS
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes the shapes of a trained head.

    It is saved in config.json, so that a checkpoint needs no store.
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
    tokens: TokenChoice = EVERY_TOKEN
    """Which tokens of a text take part."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, read back by `from_json`."""
        return {
            "dim": self.dim,
            "layers": list(self.layers),
            "mixed": self.mixed,
            "kind": self.kind,
            "task": self.task.to_json(),
            **self.tokens.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        """The spec that `to_json` wrote.

        Raises:
            KeyError: a value is missing.
            UsageError: the task is damaged.
        """
        return cls(
            dim=values["dim"],
            layers=tuple(values["layers"]),
            mixed=values["mixed"],
            kind=values["kind"],
            task=TaskSpec.from_json(values["task"]),
            tokens=TokenChoice.from_json(values),
        )


class SentenceModel(nnx.Module):
    """Stem + pooler + head: a batch of token states -> outputs of the task.

    Poolers that ignore edges get the `self` rule, so that no similarity is ever computed for them.
    The model of a task without labels has no objective and no head.

    Attributes: `spec`, `stem`, `pooler`, `objective`, `head`, `texts_per_row`.
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
        self.spec = spec
        pooler_class = lookup(POOLERS, pooler.pooler, "pooler (--pooler)")
        if not pooler_class.uses_edges:
            # Nor is tau learned: no gradient would ever reach it.
            graph = dataclasses.replace(
                graph,
                graph="self",
                backend="dense",
                graph_states="raw",
                learn_tau=False,
            )
        # None and 1 differ: a batch of one mixed layer has an axis of layers all the same.
        layers = len(spec.layers) if spec.mixed else None
        self.stem = Stem(
            spec.dim,
            config=graph,
            layers=layers,
            tokens=spec.tokens,
            token_norm=pooler.token_norm,
            standardise=bool(pooler.standardise),
            dropout=pooler.dropout,
            projection_dim=pooler.projection_dim,
            dtype=pooler.dtype,
            rngs=rngs,
        )
        self.pooler = pooler_class.from_config(
            self.stem.node_dim,
            pooler,
            kind=spec.kind,
            rngs=rngs,
        )
        trained = spec.task.label_kind != "none"
        self.objective = objective_for(spec.task, objective) if trained else None
        # Stem, pooler, head: the order in which initial values are drawn decides them.
        self.head = _build_head(self.objective, self.pooler.pooled_dim, rngs)
        self.texts_per_row = _texts_per_row(self.objective, spec.task)

    def graph(
        self,
        batch: TokenBatch,
        *,
        edge_budget: int | None = None,
        train: bool = False,
        progress: ArrayLike = 0.0,
        rngs: nnx.Rngs | None = None,
        numbers: StemNumbers | None = None,
    ) -> TokenGraph:
        """The token graphs of a batch; the options are those of Stem.__call__."""
        return self.stem(
            batch.hidden,
            batch.mask,
            edge_budget=edge_budget,
            train=train,
            progress=progress,
            rngs=rngs,
            numbers=numbers,
        )

    def outputs(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch out"]:
        """What the head makes of the pooled texts of each row.

        Returns:
            Logits [batch, classes], scores [batch, 1] or similarities [batch, candidates].

        Raises:
            UsageError: the model has no head.
        """
        head = self._require_head()
        # Named for profilers: the trace shows the pooler whatever its class.
        with jax.named_scope("pooler"):
            pooled = self.pooler(graph, train=train, rngs=rngs)
        # Texts are stacked by role, so the first axis becomes that of the roles.
        width = pooled.shape[-1]
        by_role = pooled.reshape(self.texts_per_row, -1, width)
        return head(by_role)

    def row_losses(
        self,
        outputs: Float[Array, "batch out"],
        batch: TokenBatch,
    ) -> Float[Array, " batch"]:
        """Loss of every row, 0 for rows that only fill a partial batch."""
        if self.objective is None:
            raise self._no_head()
        return row_loss(outputs, batch, self.objective)

    def vectors(self, graph: TokenGraph) -> Float[Array, "texts width"]:
        """The vector that stands for each text, float32.

        It is the pooled vector, or, where texts are ranked, what is compared with others.
        """
        # Never in training: no dropout, and running averages stay as they are.
        pooled = self.pooler(graph)
        pooled = pooled.astype(jnp.float32)
        if self.head is None:
            return pooled
        return self.head.vectors(pooled)

    def features(self, graph: TokenGraph) -> Float[Array, "batch width"]:
        """What the head multiplies: of a classifier the vectors of a row's texts, side by side.

        Where texts are ranked, which stand alone, it is `vectors`. Without a head it is the pooled
        vectors of a row.
        """
        pooled = self.pooler(graph)
        if self.head is None:
            return row_vectors(pooled, self.texts_per_row)
        return self.head.features(pooled, self.texts_per_row)

    def __call__(
        self,
        batch: TokenBatch,
        *,
        edge_budget: int | None = None,
        train: bool = False,
    ) -> Array:
        """Outputs of a batch, see `outputs`."""
        graph = self.graph(batch, edge_budget=edge_budget)
        return self.outputs(graph, train=train)

    def _require_head(self) -> Head:
        if self.head is None:
            raise self._no_head()
        return self.head

    def _no_head(self) -> UsageError:
        return UsageError(
            rule="outputs must come from a task's head",
            got="a model without one, such as an imported one",
            fix="Train one, or use its pooler alone.",
        )


def split_model(model: SentenceModel) -> tuple[nnx.GraphDef[SentenceModel], dict, dict]:
    """(graphdef, params, stats): the structure, and two plain nested dicts of arrays."""
    graphdef, params, stats = nnx.split(model, nnx.Param, ...)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def _build_head(
    objective: Objective | None,
    pooled_dim: int,
    rngs: nnx.Rngs,
) -> Head | None:
    if objective is None:
        return None
    return objective.head(pooled_dim, rngs)


def _texts_per_row(objective: Objective | None, task: TaskSpec) -> int:
    # Without an objective no row is ever trained on: texts are counted as they are stored.
    if objective is None:
        return len(task.roles)
    return objective.texts_per_row

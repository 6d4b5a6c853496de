"""Task kind -> head, loss and metrics; and the whole trained model, stem + pooler + head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.errors import UsageError, lookup, require
from glot_jax.graphs import Stem, TokenGraph
from glot_jax.objectives.heads import CosineHead, EmbeddingHead, FeatureHead, pair_features
from glot_jax.objectives.losses import cross_entropy, info_nce, squared_error
from glot_jax.objectives.metrics import METRICS
from glot_jax.pooling import POOLERS
from glot_jax.texts.tasks import TaskSpec


@dataclasses.dataclass(frozen=True)
class Objective:
    """One kind of task: how a head is built, its loss per row, and predictions from outputs.

    head(pooled_dim, spec, config, rngs) -> module [roles, batch, pooled] -> outputs [batch, out]
    loss(outputs, labels, spec) -> [batch]
    predict(outputs, spec) -> [rows], on the host: class indices, or scores on the label's own scale
                              (embedding: scores of every query come in and go out; see
                              objectives.ranking)
    """

    head: Callable[..., nnx.Module]
    loss: Callable[[Array, Array, TaskSpec], Array]
    predict: Callable[[np.ndarray, TaskSpec], np.ndarray]


def _classifier(
    pooled_dim: int, spec: TaskSpec, config: ObjectiveConfig, rngs: nnx.Rngs
) -> nnx.Module:
    return FeatureHead(
        pooled_dim, len(spec.roles), len(spec.classes), features=config.pair_features, rngs=rngs
    )


def _regressor(
    pooled_dim: int, spec: TaskSpec, config: ObjectiveConfig, rngs: nnx.Rngs
) -> nnx.Module:
    return FeatureHead(pooled_dim, len(spec.roles), 1, features=config.pair_features, rngs=rngs)


def _cosine(pooled_dim: int, spec: TaskSpec, config: ObjectiveConfig, rngs: nnx.Rngs) -> nnx.Module:
    return CosineHead(pooled_dim, rngs=rngs)


def _embedding(
    pooled_dim: int, spec: TaskSpec, config: ObjectiveConfig, rngs: nnx.Rngs
) -> nnx.Module:
    return EmbeddingHead(pooled_dim, slots_of(spec, config), config, rngs=rngs)


def slots_of(spec: TaskSpec, config: ObjectiveConfig) -> int:
    """Texts of a training row; of a ranking: query, positive and, where the store has any, the hard
    negatives asked for.
    """
    if spec.label_kind != "ranking":
        return len(spec.roles)
    return 2 + (config.hard_negatives if len(spec.text_columns) > 2 else 0)


def _range(spec: TaskSpec) -> tuple[float, float]:
    return spec.label_range or (0.0, 1.0)


def _rescale(outputs: np.ndarray, spec: TaskSpec) -> np.ndarray:
    low, high = _range(spec)
    return outputs[:, 0] * (high - low) + low


def _squared_error(outputs: Array, labels: Array, spec: TaskSpec) -> Array:
    return squared_error(outputs, labels, _range(spec))


_CLASSES = Objective(
    _classifier,
    lambda outputs, labels, spec: cross_entropy(outputs, labels),
    lambda o, spec: o.argmax(1),
)
OBJECTIVES: dict[str, Objective] = {
    "single": _CLASSES,
    "pair": _CLASSES,
    "similarity": Objective(_cosine, _squared_error, _rescale),
    "regression": Objective(_regressor, _squared_error, _rescale),
    "embedding": Objective(
        _embedding,
        lambda outputs, labels, spec: info_nce(outputs, labels),
        lambda scores, spec: scores,
    ),
}


def objective_kind(spec: TaskSpec) -> str:
    """single | pair (classes), similarity (a score for two texts), regression (a score for any
    other number) or embedding (a ranking).
    """
    if spec.label_kind == "none":
        raise UsageError(
            "training needs labels",
            f"task {spec.name!r}, stored without",
            "Extract with --label-column, or use another store.",
        )
    if spec.label_kind == "classes":
        return "single" if len(spec.roles) == 1 else "pair"
    if spec.label_kind == "ranking":
        return "embedding"
    return "similarity" if spec.is_similarity else "regression"


def evaluate(outputs: np.ndarray, labels: np.ndarray, spec: TaskSpec) -> dict[str, float]:
    """The task's metrics, by name, from model outputs [rows, out] and labels [rows]."""
    predictions = lookup(OBJECTIVES, objective_kind(spec), "objective").predict(outputs, spec)
    return {name: METRICS[name](predictions, labels) for name in spec.metrics}


def majority(train_labels: np.ndarray, labels: np.ndarray, spec: TaskSpec) -> dict[str, float]:
    """What the commonest training class scores (for scores: their mean, so every correlation
    is 0).
    """
    if spec.label_kind == "classes":
        constant = np.bincount(train_labels.astype(int), minlength=len(spec.classes)).argmax()
    else:
        constant = train_labels.mean()
    predictions = np.full(len(labels), constant)
    return {name: METRICS[name](predictions, labels) for name in spec.metrics}


def length_baseline(
    train_lengths: np.ndarray,
    train_labels: np.ndarray,
    lengths: np.ndarray,
    labels: np.ndarray,
    spec: TaskSpec,
) -> dict[str, float]:
    """What the number of tokens alone scores: a logistic (classes) or linear regression on the log
    lengths of a row's texts, and of two texts on how far these are apart.

    Args:
        train_lengths, lengths: [rows, texts of a row] tokens.
        train_labels, labels: [rows].
    """
    if len(np.unique(train_labels)) < 2:
        return majority(train_labels, labels, spec)
    model = (
        LogisticRegression(max_iter=1000) if spec.label_kind == "classes" else LinearRegression()
    )
    predictions = (
        make_pipeline(StandardScaler(), model)
        .fit(_length_features(train_lengths), train_labels)
        .predict(_length_features(lengths))
    )
    return {name: METRICS[name](predictions, labels) for name in spec.metrics}


def _length_features(lengths: np.ndarray) -> np.ndarray:
    logs = np.log1p(lengths.astype(np.float64))
    return np.concatenate([logs, np.abs(np.diff(logs, axis=1))], axis=1)


def selection_metric(spec: TaskSpec, asked: str | None) -> str:
    """The metric that picks the best epoch: the one asked for, else the task's first."""
    if asked is None:
        return spec.metrics[0]
    lookup(METRICS, asked, "metric (--metric)")
    require(
        asked in spec.metrics,
        f"task {spec.name} is judged by {', '.join(spec.metrics)}",
        f"--metric {asked}",
        "Choose one of these.",
    )
    return asked


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


def row_loss(outputs: Array, batch: TokenBatch, spec: TaskSpec) -> Float[Array, " batch"]:
    """Loss of every row, 0 for rows that only fill a partial batch."""
    loss = OBJECTIVES[objective_kind(spec)].loss(outputs, batch.labels, spec)
    return jnp.where(batch.row_mask, loss, 0)

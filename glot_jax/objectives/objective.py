"""Task kind -> head, loss and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError, lookup, require
from glot_jax.moved import moved_name
from glot_jax.objectives.heads import CosineHead, EmbeddingHead, FeatureHead
from glot_jax.objectives.losses import cross_entropy, info_nce, squared_error
from glot_jax.objectives.metrics import METRICS
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


def row_loss(outputs: Array, batch: TokenBatch, spec: TaskSpec) -> Float[Array, " batch"]:
    """Loss of every row, 0 for rows that only fill a partial batch."""
    loss = OBJECTIVES[objective_kind(spec)].loss(outputs, batch.labels, spec)
    return jnp.where(batch.row_mask, loss, 0)


def __getattr__(name: str) -> Any:
    """Names that stood here in version 0.1."""
    homes = {
        "ModelSpec": "model",
        "SentenceModel": "model",
        "length_baseline": "objectives.baselines",
        "majority": "objectives.baselines",
    }
    return moved_name(__name__, name, homes)

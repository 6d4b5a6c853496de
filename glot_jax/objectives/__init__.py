"""Pooled vectors -> scores, loss and metrics, chosen by the kind of the task."""

from glot_jax.objectives.metrics import METRICS
from glot_jax.objectives.objective import (
    OBJECTIVES,
    ModelSpec,
    SentenceModel,
    evaluate,
    length_baseline,
    majority,
    objective_kind,
    row_loss,
    selection_metric,
)
from glot_jax.texts.tasks import TaskSpec

__all__ = [
    "METRICS",
    "OBJECTIVES",
    "ModelSpec",
    "SentenceModel",
    "TaskSpec",
    "evaluate",
    "length_baseline",
    "majority",
    "objective_kind",
    "row_loss",
    "selection_metric",
]

"""Pooled vectors -> scores, loss and metrics, chosen by the kind of the task."""

from glot_jax.moved import moved_name
from glot_jax.objectives.baselines import length_baseline, majority
from glot_jax.objectives.metrics import METRICS
from glot_jax.objectives.objective import (
    OBJECTIVES,
    Objective,
    evaluate,
    objective_for,
    objective_kind,
    row_loss,
)
from glot_jax.texts.tasks import TaskSpec, selection_metric

__all__ = [
    "METRICS",
    "OBJECTIVES",
    "Objective",
    "TaskSpec",
    "evaluate",
    "length_baseline",
    "majority",
    "objective_for",
    "objective_kind",
    "row_loss",
    "selection_metric",
]


def __getattr__(name: str) -> object:
    """The model of version 0.1 was imported from here."""
    homes = {
        "ModelSpec": "model",
        "SentenceModel": "model",
    }
    return moved_name(__name__, name, homes)

"""Which objective is for which task, and what all of them promise."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.synthetic_stores import CLASSES, LABELS, PAIRS, SCORE, SCORES

from glot_jax.batches.feed_kinds import FEEDS
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.objectives import (
    METRICS,
    OBJECTIVES,
    TaskSpec,
    objective_for,
    objective_kind,
    row_loss,
)
from glot_jax.texts.tasks import TASKS

SPECS = {
    "single": CLASSES,
    "pair": PAIRS,
    "regression": SCORE,
    "similarity": SCORES,
    "embedding": TASKS["embedding"],
    "multilabel": LABELS,
    "pair-multilabel": replace(LABELS, text_columns=("a", "b"), roles=("a", "b")),
}


@pytest.mark.parametrize("kind", SPECS)
def test_each_kind_of_task_has_its_objective(kind):
    spec = SPECS[kind]
    assert objective_kind(spec) == kind
    assert [name for name, objective in OBJECTIVES.items() if objective.fits(spec)] == [kind]
    assert isinstance(objective_for(spec, ObjectiveConfig()), OBJECTIVES[kind])


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_what_an_objective_names_exists(kind):
    objective = OBJECTIVES[kind]
    fields = {field.name for field in dataclasses.fields(ObjectiveConfig)}
    assert objective.reads <= fields
    assert set(SPECS[kind].metrics) <= set(objective.metrics) <= set(METRICS)
    assert objective.feeds in FEEDS
    assert objective.judged_by in ("outputs", "vectors")
    # What the settings say of their fields, for the command line, is what the objective reads.
    others = set(ObjectiveConfig.names_for_other_tasks(kind))
    assert not objective.reads & others


@pytest.mark.parametrize("kind", ["single", "pair", "regression", "similarity"])
def test_a_filling_row_has_no_loss(kind):
    objective = objective_for(SPECS[kind], ObjectiveConfig())
    head = objective.head(6, nnx.Rngs(0))
    pooled = jnp.ones((objective.texts_per_row, 3, 6))
    outputs = head(pooled)
    batch = TokenBatch(
        hidden=None,
        mask=None,
        labels=jnp.array([1, 0, 1]),
        row_mask=jnp.array([True, True, False]),
    )
    losses = np.asarray(row_loss(outputs, batch, objective))
    assert losses.shape == (3,)
    assert losses[2] == 0
    assert (losses[:2] > 0).all()
    np.testing.assert_array_equal(losses, np.asarray(row_loss(outputs, batch, SPECS[kind])))


def test_a_task_without_labels_cannot_be_trained():
    bare = dataclasses.replace(CLASSES, label_kind="none")
    with pytest.raises(UsageError, match="training needs labels; got task 'custom'"):
        objective_kind(bare)


class Median:
    """An objective of somebody else."""

    reads = frozenset()
    metrics = ("accuracy",)
    feeds = "rows"
    judged_by = "outputs"

    def __init__(self, task: TaskSpec, config: ObjectiveConfig):
        self.task = task
        self.config = config

    @classmethod
    def fits(cls, task: TaskSpec) -> bool:
        return task.name == "median"


def test_an_objective_of_somebody_else_is_an_entry_of_the_table(monkeypatch):
    table = {"median": Median, **OBJECTIVES}
    monkeypatch.setattr("glot_jax.objectives.objective.OBJECTIVES", table)
    assert objective_kind(dataclasses.replace(CLASSES, name="median")) == "median"
    assert objective_kind(CLASSES) == "single"

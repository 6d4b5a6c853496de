"""Stem, pooler and head as one model."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.synthetic_stores import CLASSES, PAIRS

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.texts.tasks import TASKS, TaskSpec


def model_of(task: TaskSpec, pooler: str = "mean", **objective) -> SentenceModel:
    return SentenceModel(
        ModelSpec(dim=4, layers=(2,), mixed=False, kind="encoder", task=task),
        graph=GraphConfig(tau=0.3),
        pooler=PoolerConfig(pooler=pooler, hidden_dim=4, scorer_dim=4),
        objective=ObjectiveConfig(**objective),
        rngs=nnx.Rngs(0),
    )


def batch_of(texts: int) -> TokenBatch:
    states = np.random.default_rng(0).normal(size=(texts * 3, 4)).astype(np.float32)
    batch = TokenBatch.from_ragged(states, [3] * texts)
    return jax.tree.map(jnp.asarray, batch)


def test_a_spec_survives_json():
    spec = model_of(PAIRS).spec
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_outputs_have_a_row_for_each_row_of_texts():
    model = model_of(PAIRS)
    assert model.texts_per_row == 2
    assert model(batch_of(6)).shape == (3, 2)
    graph = model.graph(batch_of(6))
    assert model.vectors(graph).shape == (6, 4)
    assert model.features(graph).shape == (3, 8)


def test_texts_that_are_ranked_are_features_one_by_one():
    model = model_of(TASKS["embedding"], hard_negatives=1)
    assert model.texts_per_row == 3
    graph = model.graph(batch_of(5))
    np.testing.assert_array_equal(model.features(graph), model.vectors(graph))


def test_losses_of_filling_rows_are_zero():
    model = model_of(CLASSES)
    batch = dataclasses.replace(batch_of(3), row_mask=jnp.array([True, True, False]))
    losses = np.asarray(model.row_losses(model(batch), batch))
    assert losses[2] == 0
    assert (losses[:2] > 0).all()


def test_a_model_without_a_task_has_vectors_and_no_outputs():
    bare = dataclasses.replace(CLASSES, label_kind="none", label_column=None, metrics=())
    model = model_of(bare)
    graph = model.graph(batch_of(2))
    np.testing.assert_array_equal(model.features(graph), model.vectors(graph))
    with pytest.raises(UsageError, match="outputs must come from a task's head"):
        model.outputs(graph)


def test_no_similarity_is_computed_for_a_pooler_that_reads_no_edges():
    assert model_of(CLASSES, "mean").stem.config.graph == "self"
    assert model_of(CLASSES, "glot").stem.config.graph == "threshold"


def test_old_names_are_answered_with_a_warning():
    import glot_jax.objectives as objectives

    with pytest.deprecated_call(match="glot_jax.model.SentenceModel"):
        assert objectives.SentenceModel is SentenceModel

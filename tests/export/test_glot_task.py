"""The head of a task in PyTorch says what the one in JAX says."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import DIM, PLAIN, ROW_TASKS, TAU, assert_close, randomised
from support.typed import present

from glot_jax.config.train import ObjectiveConfig
from glot_jax.export.agreement import random_rows
from glot_jax.export.glot_task import OUTPUTS, RowHead, TaskHead
from glot_jax.export.task_head import ExportedTask
from glot_jax.export.torch_head import settings_of, torch_head, weights_of
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
from glot_jax.model import ModelSpec, SentenceModel


def model_for(name: str) -> SentenceModel:
    task, features = ROW_TASKS[name]
    spec = ModelSpec(DIM, (2,), False, "encoder", task)
    return randomised(spec, PLAIN, TAU, ObjectiveConfig(pair_features=features))


@pytest.mark.parametrize("name", ROW_TASKS)
def test_a_row_is_answered_as_by_the_predictor(name):
    model = model_for(name)
    task = ExportedTask.of_model(model).module()
    roles = model.texts_per_row
    vectors = np.random.default_rng(0).normal(size=(roles, 5, task.kernel.shape[0]))
    width = model.pooler.pooled_dim
    vectors = vectors[..., :width].astype(np.float32)
    found = task(*torch.from_numpy(vectors))
    answers = Predictor([SentenceEncoder(model, None, (2,))]).answer_vectors([vectors])
    assert tuple(found) == OUTPUTS[task.predicts]
    if answers.shares is None:
        assert_close(found["score"].detach().numpy(), answers.values)
    else:
        logits = present(model.head)(jnp.asarray(vectors))
        assert_close(found["logits"].detach().numpy(), logits)
        assert_close(found["probabilities"].detach().numpy(), answers.shares)


@pytest.mark.parametrize("name", ["classes", "interaction"])
def test_rows_of_states_become_vectors_and_scores(name):
    model = model_for(name)
    task = ExportedTask.of_model(model).module()
    head = RowHead(torch_head(settings_of(model, PLAIN), weights_of(model)), task)
    texts = None if task.texts == 1 else task.texts
    hidden, mask = random_rows(model, 4, 6, texts)
    vectors, logits, probabilities = head(torch.from_numpy(hidden), torch.from_numpy(mask))
    roles = (vectors,) if texts is None else vectors.unbind(1)
    again = task(*roles)
    assert torch.equal(again["logits"], logits)
    assert torch.equal(again["probabilities"], probabilities)
    # A row in other company has the same scores.
    alone = head(torch.from_numpy(hidden[1:2]), torch.from_numpy(mask[1:2]))
    torch.testing.assert_close(alone[2], probabilities[1:2])


def test_what_does_not_fit_is_said():
    task = TaskHead(3, texts=2, classes=["no", "yes"])
    with pytest.raises(ValueError, match="2 texts a row; got 1"):
        task(torch.ones(1, 3))
    with pytest.raises(ValueError, match="unknown task head; got 'tree'. Known: cosine, linear"):
        TaskHead(3, kind="tree")

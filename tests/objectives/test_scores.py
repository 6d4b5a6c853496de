"""Scores are learned on [0, 1] and reported on the task's own scale."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from support.synthetic_stores import SCORE, SCORES

from glot_jax.config.train import ObjectiveConfig
from glot_jax.objectives.heads import CosineHead, FeatureHead
from glot_jax.objectives.scores import Scores, Similarity


def test_a_perfect_output_has_no_loss_and_is_the_label():
    objective = Scores(SCORE, ObjectiveConfig())
    labels = np.array([-1.0, 0.0, 3.0], np.float32)
    outputs = ((labels + 1) / 4)[:, None]
    np.testing.assert_allclose(objective.loss(jnp.asarray(outputs), jnp.asarray(labels)), 0)
    np.testing.assert_allclose(objective.predict(outputs), labels)


def test_without_a_range_scores_are_taken_as_they_are():
    objective = Scores(dataclasses.replace(SCORE, label_range=None), ObjectiveConfig())
    np.testing.assert_allclose(objective.predict(np.array([[0.25]])), [0.25])


def test_two_texts_are_compared_by_a_cosine():
    assert isinstance(Similarity(SCORES, ObjectiveConfig()).head(4, nnx.Rngs(0)), CosineHead)
    assert isinstance(Scores(SCORE, ObjectiveConfig()).head(4, nnx.Rngs(0)), FeatureHead)

"""What heads make of pooled vectors."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.objectives.heads import CosineHead, EmbeddingHead, FeatureHead

POOLED = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
"""Three rows of two texts, stacked by role."""


@pytest.mark.parametrize(("features", "width"), [("concat", 8), ("interaction", 16)])
def test_features_are_what_the_linear_map_multiplies(features, width):
    head = FeatureHead(4, 2, 3, features=features, rngs=nnx.Rngs(0))
    vectors = np.asarray(head.features(jnp.asarray(POOLED), 2))
    assert vectors.shape == (3, width)
    np.testing.assert_array_equal(vectors[:, :8], np.concatenate([POOLED[:3], POOLED[3:]], axis=1))
    outputs = head(jnp.asarray(POOLED.reshape(2, 3, 4)))
    np.testing.assert_allclose(
        outputs,
        vectors @ head.linear.kernel[...] + head.linear.bias[...][None],
        rtol=1e-5,
        atol=1e-6,
    )


def test_interaction_of_three_texts_is_refused():
    with pytest.raises(UsageError, match="must be used with two texts a row; got 3"):
        FeatureHead(4, 3, 2, features="interaction", rngs=nnx.Rngs(0))


def test_a_cosine_is_one_of_equal_texts_and_zero_of_nothing():
    head = CosineHead(4, rngs=nnx.Rngs(0))
    same = jnp.stack([jnp.asarray(POOLED[:3])] * 2)
    np.testing.assert_allclose(head(same), np.ones((3, 1)), rtol=1e-6)


@pytest.mark.parametrize("texts_per_row", [2, 3])
def test_texts_that_are_ranked_stand_alone(texts_per_row):
    head = EmbeddingHead(4, texts_per_row, ObjectiveConfig(), rngs=nnx.Rngs(0))
    features = np.asarray(head.features(jnp.asarray(POOLED), texts_per_row))
    np.testing.assert_array_equal(features, head.vectors(jnp.asarray(POOLED)))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)

"""The nonlinearity and the dropout that all backends share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.typed import of_kind

from glot_jax.errors import UsageError
from glot_jax.graphs.attention import (
    dropout_seed,
    keep,
    keep_pairs,
    leaky_relu,
    leaky_relu_slope,
)


def test_the_slope_is_the_derivative():
    values = jnp.asarray([-3.0, -0.1, 0.5, 2.0])
    slopes = jax.vmap(jax.grad(leaky_relu))(values)
    np.testing.assert_array_equal(leaky_relu_slope(values), slopes)
    np.testing.assert_allclose(leaky_relu(values), [-0.6, -0.02, 0.5, 2.0], atol=1e-7)


def test_what_is_kept_is_scaled_up_and_depends_on_the_words_alone():
    seed = dropout_seed(jax.random.key(0))
    words = jnp.arange(20_000)
    kept = np.asarray(keep(0.3, seed, words))
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.7], rtol=1e-6)
    assert abs((kept == 0).mean() - 0.3) < 0.02
    np.testing.assert_array_equal(kept[::-1], keep(0.3, seed, words[::-1]))


def test_pairs_are_kept_by_rank_and_not_by_place():
    rank = jnp.arange(5)[None]
    padded = jnp.concatenate([jnp.full((1, 3), -1), rank], axis=1)
    seed = jnp.uint32(7)
    alone = keep_pairs(0.5, 0, seed, rank, rank)
    np.testing.assert_array_equal(
        of_kind(keep_pairs(0.5, 0, seed, padded, padded), jax.Array)[:, 3:, 3:], alone
    )
    assert keep_pairs(0.0, 0, seed, rank, rank) == 1.0


def test_dropout_without_a_key_is_refused():
    with pytest.raises(UsageError, match="attention dropout must be given a key"):
        dropout_seed(None)

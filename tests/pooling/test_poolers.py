"""Poolers without a parameter against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx
from support.pooled import DIM, LENGTH, LENGTHS, assert_formula, graph_of

from glot_jax.config.train import PoolerConfig
from glot_jax.graphs import BACKENDS
from glot_jax.pooling import Cls, First, Last, MeanSqrtLen, WeightedMean


def position_weights(length: int) -> np.ndarray:
    return np.arange(1, length + 1) / (length * (length + 1) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weighted_mean_is_its_formula(backend):
    pooler = WeightedMean(DIM)
    assert_formula(pooler, backend, lambda states: position_weights(len(states)) @ states)
    _, graph = graph_of(backend)
    weights = np.asarray(pooler.token_weights(graph))
    for row, length in enumerate(LENGTHS):
        expected = np.zeros(LENGTH)
        expected[LENGTH - length :] = position_weights(length) if length else 0
        np.testing.assert_allclose(weights[row], expected, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_sqrt_len_is_its_formula(backend):
    pooler = MeanSqrtLen(DIM)
    assert_formula(pooler, backend, lambda states: states.sum(0) / np.sqrt(len(states)))
    _, graph = graph_of(backend)
    sums = np.asarray(pooler.token_weights(graph)).sum(1)
    np.testing.assert_allclose(sums, np.sqrt(LENGTHS), atol=1e-6)


def test_cls_is_the_first_token_of_an_encoder_and_the_last_of_a_decoder():
    build = {
        kind: Cls.from_config(DIM, PoolerConfig(pooler="cls"), kind=kind, rngs=nnx.Rngs(0))
        for kind in ("encoder", "decoder")
    }
    assert isinstance(build["encoder"], First)
    assert isinstance(build["decoder"], Last)
    states, graph = graph_of("dense")
    np.testing.assert_array_equal(Cls(DIM)(graph)[0], states[0][0].astype(np.float32))
    np.testing.assert_array_equal(Cls(DIM, "decoder")(graph)[0], states[0][-1].astype(np.float32))

"""AdaPool by attention against its formula, written out in numpy, token by token."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx
from support.pooled import DIM, graph_of, softmax

from glot_jax.errors import UsageError
from glot_jax.graphs import BACKENDS
from glot_jax.pooling import AdaPoolAttention


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heads", [1, 3, 12])
def test_adapool_attention_is_its_formula(heads, backend):
    """`q = W_q mean x`; softmax_i(q.k_i / sqrt(dim)) per head.

    Values are summed, heads concatenated, and multiplied by W_o.
    """
    states, graph = graph_of(backend)
    pooler = AdaPoolAttention(DIM, heads, rngs=nnx.Rngs(0))
    query, key, value, out = (
        np.asarray(kernel[...], np.float64)
        for kernel in (pooler.query, pooler.key, pooler.value, pooler.out)
    )
    width = DIM // heads
    expected = np.zeros((len(states), DIM))
    weights = np.zeros((len(states), 9))
    for row, tokens in enumerate(states):
        if not len(tokens):
            continue
        asked = tokens.mean(0) @ query
        keys = tokens @ key
        values = tokens @ value
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            share = softmax(keys[:, cut] @ asked[cut] / np.sqrt(DIM))
            parts.append(share @ values[:, cut])
            weights[row, 9 - len(tokens) :] += share / heads
        expected[row] = np.concatenate(parts) @ out
    np.testing.assert_allclose(pooler(graph), expected, atol=2e-5)
    np.testing.assert_allclose(pooler.token_weights(graph), weights, atol=1e-5)


def test_heads_that_do_not_divide_the_states_are_refused():
    with pytest.raises(
        UsageError,
        match=(
            "--heads must divide the width of the states; got 5 heads for 12. Divisors: 1, 2, 3, 4,"
            " 6, 12"
        ),
    ):
        AdaPoolAttention(DIM, 5, rngs=nnx.Rngs(0))

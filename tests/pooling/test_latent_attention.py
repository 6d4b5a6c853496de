"""Latent attention against NV-Embed's equations, token by token in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flax import nnx
from support.pooled import DIM, assert_formula, parameters, randomised, softmax

from glot_jax.errors import UsageError
from glot_jax.graphs import BACKENDS
from glot_jax.pooling import LatentAttention


def gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))


def latent_attention(states: np.ndarray, weights: dict[str, np.ndarray], heads: int) -> np.ndarray:
    width = DIM // heads
    outputs = []
    for state in states:
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            latents = weights["latents"][:, cut]
            parts.append(softmax(latents @ state[cut] / np.sqrt(width)) @ latents)
        hidden = gelu(np.concatenate(parts) @ weights["kernel"] + weights["bias"])
        outputs.append(hidden @ weights["out_kernel"] + weights["out_bias"])
    return np.mean(outputs, axis=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heads", [1, 3])
def test_latent_attention_is_its_formula(heads, backend):
    pooler = LatentAttention(DIM, heads, latents=6, hidden_dim=10, rngs=nnx.Rngs(0))
    weights = parameters(randomised(pooler))
    assert_formula(pooler, backend, lambda states: latent_attention(states, weights, heads))


def test_heads_that_do_not_divide_the_states_are_refused():
    with pytest.raises(UsageError, match="must divide the width of the states; got 5 heads"):
        LatentAttention(DIM, 5, rngs=nnx.Rngs(0))

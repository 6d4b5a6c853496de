"""Poolers and parts without a reference library, against their formulas written out in numpy, token
by token.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.token_states import pad, sentences

from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import BACKENDS, token_graph
from glot_jax.pooling import POOLERS, AdaPoolAttention, Glot

DIM = 12
LENGTHS = [5, 1, 7, 0, 3]


def graph_of(backend: str, **options):
    states = sentences(LENGTHS, DIM)
    hidden, mask = pad(states, 9, "left", fill=3.0)
    return states, token_graph(hidden, mask, tau=0.5, backend=backend, **options)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heads", [1, 3, 12])
def test_adapool_attention_is_its_formula(heads, backend):
    """q = W_q mean x; softmax_i(q.k_i / sqrt(dim)) per head; values summed, heads concatenated,
    W_o.
    """
    states, graph = graph_of(backend)
    pooler = AdaPoolAttention(DIM, heads, rngs=nnx.Rngs(0))
    query, key, value, out = (
        np.asarray(kernel[...], np.float64)
        for kernel in (pooler.query, pooler.key, pooler.value, pooler.out)
    )
    width = DIM // heads
    expected, weights = np.zeros((len(states), DIM)), np.zeros((len(states), 9))
    for row, of in enumerate(states):
        if not len(of):
            continue
        asked, keys, values = of.mean(0) @ query, of @ key, of @ value
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            share = softmax(keys[:, cut] @ asked[cut] / np.sqrt(DIM))
            parts.append(share @ values[:, cut])
            weights[row, 9 - len(of) :] += share / heads
        expected[row] = np.concatenate(parts) @ out
    np.testing.assert_allclose(pooler(graph), expected, atol=2e-5)
    np.testing.assert_allclose(pooler.token_weights(graph), weights, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_residual_and_virtual_node_are_their_formulas(backend):
    """U_k = LayerNorm(relu(layer(U)) + W U), then + MLP(mean_j u_j); the layer itself is checked
    elsewhere.
    """
    states, graph = graph_of(backend)
    glot = Glot(DIM, 8, 2, gnn="sage", residual=True, virtual_node=True, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for residual in glot.gnn.residuals:
        residual.norm.scale[...] = jnp.asarray(rng.uniform(0.5, 2, 8), jnp.float32)
        residual.norm.bias[...] = jnp.asarray(rng.normal(size=8), jnp.float32)
    found = [np.asarray(graph.to_padded(part)) for part in glot.gnn(graph)]
    before = graph.nodes
    for k, layer in enumerate(glot.gnn.layers):
        new = np.maximum(np.asarray(graph.to_padded(layer(graph, before)), np.float64), 0)
        old = np.asarray(graph.to_padded(before), np.float64)
        residual, virtual = glot.gnn.residuals[k], glot.gnn.virtual_nodes[k]
        if residual.kernel is not None:
            old = old @ np.asarray(residual.kernel[...], np.float64)
        assert (residual.kernel is None) == (k > 0)
        total = new + old
        normal = (total - total.mean(-1, keepdims=True)) / np.sqrt(
            total.var(-1, keepdims=True) + 1e-5
        )
        normal = normal * np.asarray(residual.norm.scale[...]) + np.asarray(residual.norm.bias[...])
        for row, of in enumerate(states):
            if len(of):
                real = normal[row, 9 - len(of) :]
                heard = np.maximum(
                    real.mean(0) @ np.asarray(virtual.hear.kernel[...])
                    + np.asarray(virtual.hear.bias[...]),
                    0,
                )
                said = heard @ np.asarray(virtual.speak.kernel[...]) + np.asarray(
                    virtual.speak.bias[...]
                )
                np.testing.assert_allclose(found[k + 1][row, 9 - len(of) :], real + said, atol=5e-5)
        before = glot.gnn(graph)[k + 1]


@pytest.mark.parametrize("name", ["gcn", "gine", "beyond"])
def test_bfloat16_sums_do_not_stop_at_256(name):
    """300 equal tokens, all linked: sums of bfloat16 ones would end at 256 wherever they are added
    up in bfloat16.
    """
    hidden = np.repeat(np.random.default_rng(0).normal(size=(1, 1, DIM)), 300, axis=1).astype(
        np.float32
    )
    mask = np.ones((1, 300), bool)
    settings = {"residual": True, "virtual_node": True} if name == "beyond" else {"gnn": name}
    pooler = POOLERS["glot"].from_config(
        DIM,
        PoolerConfig(dtype="bfloat16", hidden_dim=8, **settings),
        kind="encoder",
        rngs=nnx.Rngs(0),
    )
    graphdef, params, rest = nnx.split(pooler, nnx.Param, ...)
    cotangent = np.random.default_rng(1).normal(size=pooler.pooled_dim).astype(np.float32)
    results = []
    for backend in BACKENDS:
        graph = jax.jit(functools.partial(token_graph, tau=0.5, backend=backend))(
            hidden.astype(jnp.bfloat16), mask
        )
        assert graph.nodes.dtype == jnp.bfloat16

        def loss(params, graph=graph):
            pooled = nnx.merge(graphdef, params, rest)(graph)
            return jnp.sum(pooled * cotangent), pooled

        gradient, pooled = jax.jit(jax.grad(loss, has_aux=True))(params)
        results.append(
            [np.asarray(leaf, np.float32) for leaf in (pooled, *jax.tree.leaves(gradient))]
        )
        ones = jnp.ones_like(graph.nodes)
        assert float(graph.sum(ones)[graph.node_mask].min()) == 300.0
    largest = max(np.abs(leaf).max() for leaf in results[0])
    for other in results[1:]:
        for expected, found in zip(results[0], other, strict=True):
            np.testing.assert_allclose(found / largest, expected / largest, atol=0.03)


def test_heads_that_do_not_divide_the_states_are_refused():
    with pytest.raises(
        UsageError,
        match=(
            "--heads must divide the width of the states; got 5 heads for 12. Divisors: 1, 2, 3, 4,"
            " 6, 12"
        ),
    ):
        AdaPoolAttention(DIM, 5, rngs=nnx.Rngs(0))

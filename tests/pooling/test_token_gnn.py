"""The Token-GNN's own parts against their formulas, and sums in bfloat16."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.pooled import DIM, graph_of
from support.typed import present

from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import BACKENDS, token_graph
from glot_jax.pooling import POOLERS, Glot


@pytest.mark.parametrize("backend", BACKENDS)
def test_residual_and_virtual_node_are_their_formulas(backend):
    """U_k = LayerNorm(relu(layer(U)) + W U), then + MLP(mean_j u_j).

    The layer itself is checked elsewhere.
    """
    states, graph = graph_of(backend)
    glot = Glot(DIM, 8, 2, gnn="sage", residual=True, virtual_node=True, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for residual in glot.gnn.residuals:
        present(residual.norm.scale)[...] = jnp.asarray(rng.uniform(0.5, 2, 8), jnp.float32)
        present(residual.norm.bias)[...] = jnp.asarray(rng.normal(size=8), jnp.float32)
    parts = [np.asarray(graph.to_padded(part)) for part in glot.gnn(graph)]
    before = graph.nodes
    for k, layer in enumerate(glot.gnn.layers):
        new = np.maximum(np.asarray(graph.to_padded(layer(graph, before)), np.float64), 0)
        old = np.asarray(graph.to_padded(before), np.float64)
        residual = glot.gnn.residuals[k]
        virtual = glot.gnn.virtual_nodes[k]
        if residual.kernel is not None:
            old = old @ np.asarray(residual.kernel[...], np.float64)
        assert (residual.kernel is None) == (k > 0)
        total = new + old
        normal = (total - total.mean(-1, keepdims=True)) / np.sqrt(
            total.var(-1, keepdims=True) + 1e-5
        )
        normal = normal * np.asarray(present(residual.norm.scale)[...]) + np.asarray(
            present(residual.norm.bias)[...]
        )
        for row, tokens in enumerate(states):
            if len(tokens):
                real = normal[row, 9 - len(tokens) :]
                heard = np.maximum(
                    real.mean(0) @ np.asarray(virtual.hear.kernel[...])
                    + np.asarray(present(virtual.hear.bias)[...]),
                    0,
                )
                said = heard @ np.asarray(virtual.speak.kernel[...]) + np.asarray(
                    present(virtual.speak.bias)[...]
                )
                np.testing.assert_allclose(
                    parts[k + 1][row, 9 - len(tokens) :], real + said, atol=5e-5
                )
        before = glot.gnn(graph)[k + 1]


@pytest.mark.parametrize("name", ["gcn", "gine", "beyond"])
def test_bfloat16_sums_do_not_stop_at_256(name):
    """300 equal tokens, all linked.

    Sums of bfloat16 ones would end at 256 wherever they are added up in bfloat16.
    """
    hidden = np.repeat(np.random.default_rng(0).normal(size=(1, 1, DIM)), 300, axis=1).astype(
        np.float32
    )
    mask = np.ones((1, 300), bool)
    settings: dict[str, Any] = {"gnn": name}
    if name == "beyond":
        settings = {"residual": True, "virtual_node": True}
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
            return jnp.sum(pooled * cotangent[None]), pooled

        gradient, pooled = jax.jit(jax.grad(loss, has_aux=True))(params)
        results.append(
            [np.asarray(leaf, np.float32) for leaf in (pooled, *jax.tree.leaves(gradient))]
        )
        ones = jnp.ones_like(graph.nodes)
        assert float(graph.sum(ones)[graph.node_mask].min()) == 300.0
    largest = max(np.abs(leaf).max() for leaf in results[0])
    for other in results[1:]:
        for expected, actual in zip(results[0], other, strict=True):
            np.testing.assert_allclose(actual / largest, expected / largest, atol=0.03)


@pytest.mark.parametrize(
    "changes", [{"jk": "lstm"}, {"jk": "max", "num_layers": 0}, {"gnn": "gcn", "heads": 2}]
)
def test_designs_that_do_not_fit_together_are_refused(changes):
    with pytest.raises(UsageError, match="must"):
        Glot(DIM, **changes, rngs=nnx.Rngs(0))

"""TokenGraph <-> jraph.GraphsTuple: exact outside of jit, padded to a budget under it, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from flax import nnx
from support.graph_parts import arrays_of
from support.token_states import pad, sentences
from support.typed import of_kind, present

from glot_jax.errors import UsageError
from glot_jax.graphs import TokenGraph, from_jraph, token_graph
from glot_jax.pooling import POOLERS, Glot, Pooler

DIM = 12
LENGTHS = [5, 1, 0, 7]


def states() -> tuple[np.ndarray, np.ndarray]:
    return pad(sentences(LENGTHS, DIM), 9, "left")


def pairs_of(graphs: jraph.GraphsTuple) -> list[tuple[int, int]]:
    """(sender, receiver) of every listed edge, padding left out."""
    arrays = arrays_of(graphs)
    pairs = zip(arrays.senders.tolist(), arrays.receivers.tolist(), strict=True)
    real = int(np.sum(arrays.n_node[: len(LENGTHS)]))
    return [pair for pair in pairs if pair[1] < real]


@pytest.mark.parametrize("backend", ["dense", "blockwise", "sparse"])
def test_under_jit_a_budget_pads_and_counts_what_it_drops(backend):
    hidden, mask = states()
    exact = token_graph(hidden, mask, 0.5, backend="dense").to_jraph()
    edges = len(arrays_of(exact).senders)

    def listed(budget: int) -> jraph.GraphsTuple:
        def make(hidden: jax.Array) -> jraph.GraphsTuple:
            return token_graph(hidden, mask, 0.5, backend=backend).to_jraph(budget)

        return jax.jit(make)(hidden)

    for budget in (edges + 5, edges, edges - 3):
        graphs = listed(budget)
        kept = min(budget, edges)
        assert pairs_of(graphs) == pairs_of(exact)[:kept]
        arrays = arrays_of(graphs)
        assert int(arrays.n_edge.sum()) == arrays.senders.size == budget
        assert int(arrays.n_node.sum()) == arrays.nodes.shape[0]
        assert arrays.n_edge[: len(LENGTHS)].sum() == kept
        assert of_kind(graphs.globals, dict)["dropped_edges"].tolist() == [0, 0, 0, 0, edges - kept]
        np.testing.assert_array_equal(arrays.nodes[: mask.sum()], hidden[mask])


@pytest.mark.parametrize("backend", ["dense", "blockwise"])
def test_under_jit_a_budget_is_asked_for(backend):
    hidden, mask = states()

    def make(hidden):
        return token_graph(hidden, mask, 0.5, backend=backend).to_jraph()

    with pytest.raises(UsageError, match="must be listed for a static budget.*edge_budget=4096"):
        jax.jit(make)(hidden)


def test_a_graph_without_edges_has_an_empty_list():
    hidden, mask = states()
    graphs = token_graph(hidden, mask, 1.0, backend="dense").to_jraph()
    assert present(graphs.senders).shape == (0,)
    assert graphs.n_edge.tolist() == [0, 0, 0, 0]


# One that reads edges, one that reads tokens alone; the others in the long version.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("glot", "pma") else [pytest.mark.slow])
        for name in POOLERS
    ],
)
def test_every_pooler_takes_a_graph_from_jraph(name):
    hidden, mask = states()
    graph = token_graph(hidden, mask, 0.5, backend="dense")
    pooler = POOLERS[name]
    build = cast(Callable[..., Pooler], pooler)
    if name in ("glot", "mlp"):
        built = build(DIM, hidden_dim=8, rngs=nnx.Rngs(0))
    elif "rngs" in pooler.__init__.__annotations__:
        built = build(DIM, rngs=nnx.Rngs(0))
    else:
        built = build(DIM)
    loose = TokenGraph.from_jraph(graph.to_jraph())
    padded = TokenGraph.from_jraph(graph.to_jraph(edge_budget=200), padded=True, length=9)
    for other in (loose, padded):
        np.testing.assert_allclose(built(other), built(graph), atol=2e-5)
    # A tuple knows no padding: its tokens stand at the start of each row.
    weights = built.token_weights(loose)
    for row, length in enumerate(LENGTHS):
        expected = built.token_weights(graph)[row, 9 - length :]
        np.testing.assert_allclose(weights[row, :length], expected, atol=2e-6)


def test_jraphs_own_padding_and_unsorted_edges_are_read():
    hidden, mask = states()
    graphs = token_graph(hidden, mask, 0.5, backend="dense").to_jraph()
    arrays = arrays_of(graphs)
    order = np.random.default_rng(0).permutation(arrays.senders.size)
    shuffled = graphs._replace(senders=arrays.senders[order], receivers=arrays.receivers[order])
    padded = jraph.pad_with_graphs(graphs, 20, 120, 7)
    glot = Glot(DIM, 8, rngs=nnx.Rngs(0))
    expected = glot(from_jraph(graphs))
    np.testing.assert_allclose(glot(from_jraph(shuffled)), expected, atol=1e-5)
    pooled = jax.jit(lambda graphs: glot(from_jraph(graphs, padded=True, length=8)))(padded)
    np.testing.assert_allclose(pooled[:4], expected, atol=1e-5)
    assert not np.any(pooled[4:])


def test_dropped_edges_come_along():
    hidden, mask = states()
    graphs = token_graph(hidden, mask, 0.5, backend="dense").to_jraph(edge_budget=4)
    assert int(from_jraph(graphs, padded=True).dropped_edges) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": {"a": jnp.zeros((13, 2))}}, "must be one array"),
        ({"edges": jnp.zeros(3)}, "must have no features"),
        ({"n_node": jnp.asarray([5, 1, 0, 6])}, "must add up to the number of nodes"),
        ({"senders": jnp.asarray([99]), "receivers": jnp.asarray([0])}, "must be numbers of nodes"),
        ({"senders": jnp.asarray([0]), "receivers": jnp.asarray([9])}, "within its sentence"),
    ],
)
def test_tuples_that_are_no_token_graph_are_refused(change, message):
    hidden, mask = states()
    graphs = token_graph(hidden, mask, 0.5, backend="dense").to_jraph()
    with pytest.raises(UsageError, match=message):
        from_jraph(graphs._replace(**change))


def test_a_length_that_is_too_short_is_refused():
    hidden, mask = states()
    graphs = token_graph(hidden, mask, 0.5, backend="dense").to_jraph()
    with pytest.raises(UsageError, match="at least that of the longest sentence; got 6"):
        from_jraph(graphs, length=6)
    with pytest.raises(UsageError, match="must be given the length of the longest sentence"):
        jax.jit(lambda n_node: from_jraph(graphs._replace(n_node=n_node)).nodes)(graphs.n_node)

"""The jraph backend: budgets, the layout of the tuple, edges found block by block."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from flax import nnx
from jraph import AggregateEdgesToNodesFn
from support.graph_parts import GraphArrays, adjacency_of, arrays_of, tuple_of
from support.token_states import pad, sentences
from support.typed import of_kind

from glot_jax.config.train import GraphConfig
from glot_jax.graphs import RULES, Stem, linking, sparse, token_graph


def edges_of(graphs: GraphArrays) -> set[tuple[int, int]]:
    """(sender, receiver) pairs of a tuple's real nodes."""
    spare = len(graphs.nodes) - 1
    pairs = zip(graphs.senders.tolist(), graphs.receivers.tolist(), strict=True)
    return {pair for pair in pairs if pair != (spare, spare)}


@pytest.mark.parametrize("block", [1, 40])
@pytest.mark.parametrize("graph", RULES)
def test_blocks_find_the_dense_edges_in_order(monkeypatch, block, graph):
    for module in (sparse, linking):
        monkeypatch.setattr(module, "BLOCK_PAIRS", block)
    hidden, mask = pad(sentences([5, 1, 7, 3, 2], 12), 9, "left")
    dense = token_graph(hidden, mask, tau=0.5, graph=graph, k=3, window=1)
    listed = arrays_of(dense.to_jraph())
    found = token_graph(hidden, mask, tau=0.5, graph=graph, k=3, window=1, backend="sparse")
    flat = arrays_of(tuple_of(found))
    assert edges_of(flat) == set(
        zip(listed.senders.tolist(), listed.receivers.tolist(), strict=True)
    )
    assert np.all(np.diff(flat.receivers) >= 0)
    assert flat.n_node[:-1].tolist() == listed.n_node.tolist()
    assert flat.n_edge[:-1].tolist() == listed.n_edge.tolist()
    assert int(found.dropped_edges) == 0
    stem = Stem(12, config=GraphConfig(graph=graph, tau=0.5, k=3, window=1), rngs=nnx.Rngs(0))
    counted = stem.count_edges(jnp.asarray(hidden), jnp.asarray(mask))
    assert counted.tolist() == listed.n_edge.tolist()


def test_padded_tuple_follows_jraph():
    hidden, mask = pad(sentences([5, 2], 12), 6)
    graphs = tuple_of(token_graph(hidden, mask, tau=0.5, backend="sparse", edge_budget=64))
    arrays = arrays_of(graphs)
    assert arrays.nodes.shape == (13, 12)
    assert arrays.senders.shape == arrays.receivers.shape == (64,)
    assert int(arrays.n_node.sum()) == 13
    assert int(arrays.n_edge.sum()) == 64
    real = of_kind(jraph.get_node_padding_mask(graphs), jax.Array)
    assert real.tolist() == [True] * 7 + [False] * 6
    np.testing.assert_array_equal(arrays.nodes[:5], hidden[0, :5])
    # jraph's own layers take it: a mean over neighbours equals the dense one.
    # jraph's own default, segment_sum, does not meet the type of this argument either.
    mean = cast(AggregateEdgesToNodesFn, jraph.segment_mean)
    update = jraph.GraphConvolution(
        lambda nodes: nodes, aggregate_nodes_fn=mean, add_self_edges=False
    )
    dense = token_graph(hidden, mask, tau=0.5)
    expected = dense.mean(dense.nodes)[np.asarray(mask)]
    graphs = graphs._replace(edges=None)
    symmetric = jax.jit(lambda g: jraph.segment_mean(g.nodes[g.senders], g.receivers, 13))(graphs)
    np.testing.assert_allclose(symmetric[:7], expected, atol=1e-5)
    assert arrays_of(update(graphs)).nodes.shape == (13, 12)


def test_overflow_is_counted_not_hidden():
    hidden, mask = pad(sentences([6, 6], 12))
    needed = int(adjacency_of(token_graph(hidden, mask, graph="complete")).sum())
    for budget in (needed, needed - 1, 10):
        graph = token_graph(hidden, mask, graph="complete", backend="sparse", edge_budget=budget)
        assert int(graph.dropped_edges) == needed - budget
        assert int(tuple_of(graph).n_edge.sum()) == budget


def test_to_jraph_of_a_dense_graph_has_no_padding():
    hidden, mask = pad(sentences([3, 4], 12), 8, "left")
    graph = arrays_of(token_graph(hidden, mask, graph="complete").to_jraph())
    assert graph.n_node.tolist() == [3, 4]
    assert graph.n_edge.tolist() == [9, 16]
    assert len(graph.senders) == 25
    np.testing.assert_array_equal(graph.nodes, hidden[mask])

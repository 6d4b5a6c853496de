"""Flat layouts and edge lists: real tokens first, static sizes, budgets that drop the last."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from glot_jax.graphs.flat import EdgeWriter, FlatLayout

MASK = jnp.asarray([[False, True, True], [False, False, False], [True, False, True]])


def test_real_tokens_come_first_and_the_last_node_is_padding():
    layout = FlatLayout.from_mask(MASK)
    assert layout.position.tolist() == [[9, 0, 1], [9, 9, 9], [2, 9, 3]]
    assert layout.node_mask.tolist() == [True] * 4 + [False] * 6
    assert layout.sentence.tolist() == [0, 0, 2, 2] + [3] * 6
    values = jnp.arange(9.0).reshape(3, 3, 1)
    assert layout.flatten(values)[:, 0].tolist() == [1, 2, 6, 8] + [0] * 6


def test_a_writer_counts_what_it_has_no_room_for():
    linked = jnp.asarray([[[True, True], [False, True]], [[True, False], [True, True]]])
    nodes = jnp.asarray([[0, 1], [2, 3]])
    counts = jnp.asarray([3, 3])
    for budget, listed, dropped in ((8, [3, 3], 0), (4, [3, 1], 2), (0, [0, 0], 6)):
        edges = EdgeWriter.empty(budget, 4).add(linked, nodes, nodes).finish(counts)
        pairs = list(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True))
        expected = [(0, 0), (1, 0), (1, 1), (2, 2), (2, 3), (3, 3)][:budget]
        assert pairs == expected + [(4, 4)] * (budget - len(expected))
        assert edges.n_edge.tolist() == listed
        assert int(edges.dropped_edges) == dropped
        assert np.all(np.diff(edges.receivers) >= 0)

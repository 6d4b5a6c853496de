"""Parts of graphs that belong to one backend, or that jraph's types leave open."""

from __future__ import annotations

from typing import NamedTuple

import jraph
from jax import Array

from glot_jax.graphs import TokenGraph
from glot_jax.graphs.blockwise import BlockwiseGraph
from glot_jax.graphs.dense import DenseGraph
from glot_jax.graphs.sparse import SparseGraph
from support.typed import of_kind


def adjacency_of(graph: TokenGraph) -> Array:
    """[batch, length, length] bool: [b, i, j] is the edge j -> i of sentence b."""
    assert isinstance(graph, DenseGraph | BlockwiseGraph)
    return graph.adjacency


def tuple_of(graph: TokenGraph) -> jraph.GraphsTuple:
    """The padded tuple that a sparse graph is."""
    return of_kind(graph, SparseGraph).tuple


class GraphArrays(NamedTuple):
    """The parts of a `jraph.GraphsTuple` that hold one array each."""

    nodes: Array
    senders: Array
    receivers: Array
    n_node: Array
    n_edge: Array


def arrays_of(graphs: jraph.GraphsTuple) -> GraphArrays:
    """For jraph's types, features may be trees and senders missing; here they are arrays."""
    parts = (graphs.nodes, graphs.senders, graphs.receivers, graphs.n_node, graphs.n_edge)
    return GraphArrays(*(of_kind(part, Array) for part in parts))

"""TokenGraph <-> `jraph.GraphsTuple`. The only `import jraph`."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax import Array
from jax.core import Tracer

from glot_jax.errors import UsageError
from glot_jax.graphs.flat import FlatLayout
from glot_jax.graphs.sparse import SparseGraph
from glot_jax.graphs.token_graph import (
    TokenGraph,
    register_jraph_conversions,
    require_token_graph,
)

DROPPED = "dropped_edges"
"""Key of `globals` under which a padded tuple counts the edges its budget had no room for."""


def to_jraph(graph: TokenGraph, edge_budget: int | None = None) -> jraph.GraphsTuple:
    """Return a graph for jraph's own layers, one jraph graph a sentence.

    Without a budget a dense or blockwise graph is listed exactly, with no padding, outside of
    jax.jit; a sparse one gives its own, padded tuple. With a budget the tuple has static shapes:
    batch·length + 1 nodes, edge_budget edges and batch + 1 graphs, of which the last one holds the
    padding. `globals["dropped_edges"] [batch + 1]` is then 0 but for its last entry, the number of
    edges that had no room: a result with any is wrong.

    Args:
        graph: a TokenGraph of any backend. The weights of soft edges are left out.
        edge_budget: number of edges of the tuple, a Python number.

    Raises:
        UsageError: no budget for a dense or blockwise graph under jax.jit.
    """
    require_token_graph(graph, "to_jraph")
    if isinstance(graph, SparseGraph) and edge_budget is None:
        return _sparse_tuple(graph)
    edges = graph.edge_list(edge_budget)
    # Any backend's layout can be brought into the batch's own, and laid out flat from there.
    padded_mask = graph.to_padded(graph.node_mask[..., None])
    mask = padded_mask[..., 0].astype(bool)
    layout = FlatLayout.from_mask(mask)
    nodes = layout.flatten(graph.to_padded(graph.nodes))
    n_node = jnp.sum(mask, axis=1, dtype=jnp.int32)
    n_edge = edges.n_edge
    dropped = None
    if edge_budget is None:
        # Not traced, or edge_list would have refused: real tokens can be counted and cut out.
        nodes = nodes[: int(jnp.sum(n_node))]
    else:
        # Globals have one entry a graph; the padding graph carries the count.
        none_dropped = jnp.zeros_like(n_node)
        dropped = {DROPPED: jnp.append(none_dropped, edges.dropped_edges)}
        padding_nodes = nodes.shape[0] - jnp.sum(n_node)
        padding_edges = edge_budget - jnp.sum(n_edge)
        n_node = jnp.append(n_node, padding_nodes)
        n_edge = jnp.append(n_edge, padding_edges)
    return jraph.GraphsTuple(
        nodes=nodes,
        edges=None,
        senders=edges.senders,
        receivers=edges.receivers,
        globals=dropped,
        n_node=n_node,
        n_edge=n_edge,
    )


def _sparse_tuple(graph: SparseGraph) -> jraph.GraphsTuple:
    # The layout is jraph's own, so nothing is computed.
    return jraph.GraphsTuple(
        nodes=graph.nodes,
        edges=None,
        senders=graph.senders,
        receivers=graph.receivers,
        globals=None,
        n_node=graph.n_node,
        n_edge=graph.n_edge,
    )


def from_jraph(
    graphs: jraph.GraphsTuple,
    *,
    padded: bool = False,
    length: int | None = None,
) -> SparseGraph:
    """Return the sparse TokenGraph of a tuple with one graph a sentence, nodes in reading order.

    Edges are taken as they are, so one that is listed twice counts twice. Edges between sentences
    are refused outside of jax.jit and wrong under it. `globals` are not read, but for the count of
    dropped edges that `to_jraph` left there.

    Args:
        graphs: node features [nodes, dim], senders, receivers, n_node and n_edge.
        padded: the tuple ends in a padding graph, as `jraph.pad_with_graphs` leaves it; every graph
            but the last is a sentence, and one that is padding too is a sentence without tokens.
        length: tokens of the longest sentence, the width of `token_weights`; needed under jax.jit.

    Raises:
        UsageError: node features that are not one array [nodes, dim], features of edges, parts that
            do not fit together, or no length under jax.jit.
    """
    _require_token_tuple(graphs)
    if not padded:
        graphs = _with_padding_graph(graphs)
    # Checked above: nodes, senders and receivers are arrays, which the type does not say.
    parts: Any = graphs
    node_mask: Any = jraph.get_node_padding_mask(graphs)
    # The last graph is padding, and so is its last node.
    batch = parts.n_node.shape[0] - 1
    spare = parts.nodes.shape[0] - 1
    # A padding graph in the middle becomes a sentence without tokens, not a shorter batch.
    graph_mask: Any = jraph.get_graph_padding_mask(graphs)
    is_sentence = graph_mask[:batch]
    n_node = jnp.where(is_sentence, parts.n_node[:batch], 0)
    n_node = n_node.astype(jnp.int32)
    n_edge = jnp.where(is_sentence, parts.n_edge[:batch], 0)
    n_edge = n_edge.astype(jnp.int32)
    # The total is static, so this can be traced.
    sentence = jnp.repeat(
        jnp.arange(batch + 1),
        parts.n_node,
        total_repeat_length=spare + 1,
    )
    sentence = jnp.where(node_mask, sentence, batch)
    longest = _longest(n_node) if length is None else length
    # Tokens of a sentence stand side by side, in reading order, from the first column on.
    starts = jnp.cumsum(n_node) - n_node
    offset = jnp.arange(longest)[None, :]
    is_token = offset < n_node[:, None]
    position = jnp.where(is_token, starts[:, None] + offset, spare)
    # Sums over neighbours are segment sums over sorted receivers.
    order = jnp.argsort(parts.receivers, stable=True)
    senders = parts.senders[order]
    receivers = parts.receivers[order]
    dropped = _dropped(graphs)
    if length is not None:
        _require_room(n_node, length)
    padding_nodes = spare + 1 - jnp.sum(n_node)
    padding_edges = parts.senders.shape[0] - jnp.sum(n_edge)
    return SparseGraph(
        nodes=jnp.where(node_mask[:, None], parts.nodes, 0),
        node_mask=node_mask,
        senders=senders.astype(jnp.int32),
        receivers=receivers.astype(jnp.int32),
        n_node=jnp.append(n_node, padding_nodes),
        n_edge=jnp.append(n_edge, padding_edges),
        sentence=sentence.astype(jnp.int32),
        position=position.astype(jnp.int32),
        dropped_edges=dropped,
    )


def _with_padding_graph(graphs: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """Append a graph of one node and no edge, which is what references to no token refer to."""
    nodes = jnp.asarray(graphs.nodes)
    spare = jnp.zeros((1, nodes.shape[1]), nodes.dtype)
    # A tuple may hold NumPy arrays; `_replace` takes whatever it is given.
    return graphs._replace(
        nodes=jnp.concatenate([nodes, spare]),
        senders=jnp.asarray(graphs.senders),
        receivers=jnp.asarray(graphs.receivers),
        n_node=jnp.append(jnp.asarray(graphs.n_node), 1),
        n_edge=jnp.append(jnp.asarray(graphs.n_edge), 0),
    )


def _dropped(graphs: jraph.GraphsTuple) -> Array:
    """Return the dropped edges that `to_jraph` counted, 0 in a tuple from elsewhere."""
    extra: Any = graphs.globals
    # Globals may be anything: an array, a tree, or another program's dictionary.
    if isinstance(extra, dict) and DROPPED in extra:
        return jnp.sum(extra[DROPPED], dtype=jnp.int32)
    return jnp.zeros((), jnp.int32)


def _longest(n_node: Array) -> int:
    try:
        # A tuple of no graph has a longest sentence of 0 tokens.
        return int(jnp.max(n_node, initial=0))
    except jax.errors.ConcretizationTypeError:
        raise UsageError(
            rule="under jax.jit from_jraph must be given the length of the longest sentence",
            got="length=None, and n_node is traced",
            fix="Pass for example length=128.",
        ) from None


def _require_room(n_node: Array, length: int) -> None:
    """Refuse a length below the longest sentence, where that can be told."""
    if isinstance(n_node, Tracer):
        return
    longest = int(jnp.max(n_node, initial=0))
    if longest > length:
        raise UsageError(
            rule="length must be at least that of the longest sentence",
            got=f"{length} for a sentence of {longest} tokens",
            fix=f"Pass length={longest}, or leave it out.",
        )


def _require_token_tuple(graphs: jraph.GraphsTuple) -> None:
    """Refuse a tuple that holds what no token graph has, or whose parts do not fit together."""
    if not isinstance(graphs, jraph.GraphsTuple):
        raise UsageError(
            rule="from_jraph must be given a jraph.GraphsTuple",
            got=type(graphs).__name__,
            fix="token_graph(hidden, mask) makes a TokenGraph of states.",
        )
    # jraph allows any tree of arrays here, and None.
    if getattr(graphs.nodes, "ndim", None) != 2:
        raise UsageError(
            rule="the nodes of a token graph must be one array [nodes, dim]",
            got=f"nodes of type {type(graphs.nodes).__name__}",
            fix="Pass graphs._replace(nodes=...) with the features that poolers shall see.",
        )
    if graphs.edges is not None:
        raise UsageError(
            rule="the edges of a token graph must have no features: all of them weigh 1",
            got="a tuple with edge features",
            fix="Pass graphs._replace(edges=None) if they may be ignored.",
        )
    parts = (graphs.n_node, graphs.senders, graphs.receivers)
    if any(isinstance(part, Tracer) for part in parts):
        # Values are not known while tracing; shapes are all that can be checked.
        return
    _require_consistent(graphs)


def _require_consistent(graphs: jraph.GraphsTuple) -> None:
    # In NumPy: checks of many shapes would each be compiled by JAX.
    n_node = np.asarray(graphs.n_node)
    nodes = jnp.shape(cast("Any", graphs.nodes))[0]
    if n_node.sum() != nodes:
        raise UsageError(
            rule="n_node must add up to the number of nodes",
            got=f"{n_node.sum()} for {nodes} nodes",
            fix="Count every node in the graph it belongs to.",
        )
    senders = np.asarray(graphs.senders)
    receivers = np.asarray(graphs.receivers)
    _require_node_numbers(np.concatenate([senders, receivers]), nodes)
    sentence = np.repeat(np.arange(n_node.size), n_node)
    crosses = sentence[senders] != sentence[receivers]
    crossing = int(np.sum(crosses))
    if crossing:
        raise UsageError(
            rule="every edge must stay within its sentence",
            got=f"{crossing} edges between two graphs of the tuple",
            fix="Make one graph of each sentence, as jraph.batch does.",
        )


def _require_node_numbers(ends: np.ndarray, nodes: int) -> None:
    # A graph without edges has no smallest number.
    if not ends.size:
        return
    # JAX would not complain: it clamps what it gathers and drops what it scatters.
    if ends.min() < 0 or ends.max() >= nodes:
        raise UsageError(
            rule=f"senders and receivers must be numbers of nodes, 0 to {nodes - 1}",
            got=f"{ends.min()} to {ends.max()}",
            fix="Number the nodes through all graphs of the tuple.",
        )


register_jraph_conversions(to_jraph, from_jraph)

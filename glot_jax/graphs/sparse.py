"""Sparse backend: a padded `jraph.GraphsTuple` with static node and edge budgets. The only `import
jraph`.

Right for long texts with few edges, and for code that speaks jraph; elsewhere the dense backend is
several times faster, because segment reductions are scatters. Both compute the same numbers.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax import Array

from glot_jax.errors import require
from glot_jax.graphs.blockwise import BlockwiseGraph
from glot_jax.graphs.dense import DenseGraph
from glot_jax.graphs.similarity import (
    BLOCK_PAIRS,
    Options,
    Rule,
    Sentences,
    Tokens,
    link,
    pad_rows,
    sentences_of,
    tokens_of,
)
from glot_jax.graphs.token_graph import Loops, TokenGraph, dropout_seed, keep, leaky_relu


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseGraph(TokenGraph):
    """See TokenGraph.

    Real tokens come first, sentence by sentence; the last node is padding and so is what refers to
    it.

    - `tuple`: `jraph.GraphsTuple`, batch + 1 graphs, the last one holding all padding nodes and
      edges
    - `sentence`: [nodes] int32, the sentence of a node; batch for padding
    - `position`: [batch, length] int32, the node of a token; the last node for padding
    """

    tuple: Any
    node_mask: Array
    sentence: Array
    position: Array
    dropped_edges: Array
    weight: None = None

    @property
    def nodes(self) -> Array:  # type: ignore[override]
        return self.tuple.nodes

    @property
    def _others(self) -> Array:
        """Edges between two nodes; padding edges are loops of the last node."""
        return self.tuple.senders != self.tuple.receivers

    @property
    def _rank(self) -> Array:
        """[nodes] int32, real tokens before this one in its sentence."""
        return (
            jnp.arange(len(self.node_mask))
            - (jnp.cumsum(self.tuple.n_node) - self.tuple.n_node)[self.sentence]
        )

    # Segment sums and the scatter behind a gather add up in the dtype they are given; bfloat16
    # stops at 256.
    def _to_receivers(self, values: Array) -> Array:
        return jax.ops.segment_sum(
            values, self.tuple.receivers, len(self.node_mask), indices_are_sorted=True
        )

    def _to_sentences(self, values: Array) -> Array:
        batch = len(self.position)
        return jax.ops.segment_sum(values, self.sentence, batch + 1, indices_are_sorted=True)[
            :batch
        ]

    def degree(self, loops: Loops = "as_is") -> Array:
        edges = jnp.ones_like(self._others) if loops == "as_is" else self._others
        degree = self._to_receivers(edges[:, None].astype(jnp.float32))
        return degree + (loops == "exactly_one")

    def sum(self, values: Array, loops: Loops = "as_is") -> Array:
        exact = values.astype(jnp.float32)
        sent = exact[self.tuple.senders]
        if loops == "exactly_one":
            return (self._to_receivers(jnp.where(self._others[:, None], sent, 0)) + exact).astype(
                values.dtype
            )
        return self._to_receivers(sent).astype(values.dtype)

    def mean(self, values: Array, loops: Loops = "as_is") -> Array:
        degree = self.degree(loops)
        return self.sum(values, loops) / jnp.where(degree > 0, degree, 1).astype(values.dtype)

    def attend(
        self,
        source: Array,
        target: Array,
        values: Array,
        bias: Array | None = None,
        *,
        dropout: float = 0.0,
        key: Array | None = None,
    ) -> Array:
        source, target = source.astype(jnp.float32), target.astype(jnp.float32)
        if bias is not None:
            target = target + bias
        senders, receivers = self.tuple.senders, self.tuple.receivers
        own = leaky_relu(source + target)
        logits = leaky_relu(source[senders] + target[receivers])
        logits = jnp.where(self._others[:, None], logits, -jnp.inf)
        largest = jax.ops.segment_max(logits, receivers, len(own), indices_are_sorted=True)
        largest = jax.lax.stop_gradient(jnp.maximum(largest, own))
        weights, own_weight = jnp.exp(logits - largest[receivers]), jnp.exp(own - largest)
        total = self._to_receivers(weights) + own_weight
        if dropout:
            seed = dropout_seed(key)
            rank, heads = self._rank[:, None], jnp.arange(own.shape[-1])
            weights = weights * keep(
                dropout, seed, self.sentence[receivers, None], rank[receivers], rank[senders], heads
            )
            own_weight = own_weight * keep(dropout, seed, self.sentence[:, None], rank, rank, heads)
        exact = values.astype(jnp.float32)
        mixed = (
            self._to_receivers(weights[..., None] * exact[senders]) + own_weight[..., None] * exact
        )
        return (mixed / total[..., None]).astype(values.dtype)

    def sentence_sum(self, values: Array, weights: Array | None = None) -> Array:
        values = values.astype(jnp.float32) * (1.0 if weights is None else weights[:, None])
        return self._to_sentences(jnp.where(self.node_mask[:, None], values, 0))

    def sentence_max(self, values: Array) -> Array:
        batch = len(self.position)
        largest = jax.ops.segment_max(values, self.sentence, batch + 1, indices_are_sorted=True)[
            :batch
        ]
        return jnp.where(self.tuple.n_node[:batch, None] > 0, largest, 0)

    def softmax(self, scores: Array) -> Array:
        batch = len(self.position)
        scores = jnp.where(self.node_mask, scores.astype(jnp.float32), 0)
        largest = jax.ops.segment_max(scores, self.sentence, batch + 1, indices_are_sorted=True)
        weights = jnp.exp(scores - jax.lax.stop_gradient(largest)[self.sentence])
        weights = jnp.where(self.node_mask, weights, 0)
        total = jax.ops.segment_sum(weights, self.sentence, batch + 1, indices_are_sorted=True)
        return weights / jnp.where(total > 0, total, 1)[self.sentence]

    def dot(self, values: Array, sentence: Array) -> Array:
        padded = (
            jnp.concatenate([sentence, jnp.zeros_like(sentence[:1])])
            .astype(values.dtype)
            .astype(jnp.float32)
        )
        return jnp.einsum(
            "nc,nhc->nh", values, padded[self.sentence], preferred_element_type=jnp.float32
        )

    def token(self, which: Literal["first", "last"]) -> Array:
        ends = jnp.cumsum(self.tuple.n_node)
        index = (ends - self.tuple.n_node if which == "first" else ends - 1)[self.sentence]
        return (self.node_mask & (jnp.arange(len(self.node_mask)) == index)).astype(jnp.float32)

    def spread(self, sentence: Array) -> Array:
        exact = sentence.astype(jnp.float32)
        return jnp.concatenate([exact, jnp.zeros_like(exact[:1])])[self.sentence].astype(
            sentence.dtype
        )

    def to_padded(self, values: Array) -> Array:
        return jnp.where(self.node_mask[:, None], values, 0)[self.position]


class _Edges(NamedTuple):
    senders: Array
    receivers: Array
    found: Array


def _blocks(batch: int, length: int) -> tuple[int, int]:
    """Sentences and receiving rows looked at together: whole sentences while they are short, row
    blocks of one after.
    """
    if length * length >= BLOCK_PAIRS:
        return 1, max(1, BLOCK_PAIRS // length)
    return max(1, min(batch, BLOCK_PAIRS // (length * length))), length


def _find_edges(
    tokens: Tokens,
    sentences_known: Sentences,
    position: Array,
    *,
    rule: Rule,
    options: Options,
    budget: int,
) -> _Edges:
    """List edges in the order of their receivers, block by block; `found` may exceed the budget,
    the lists do not.
    """
    batch, length = tokens.mask.shape
    sentences, rows = _blocks(batch, length)
    padding = (-batch) % sentences, (-length) % rows
    spare = int(position.size)  # the node that padding refers to

    # Padded columns are masked; padding both axes alike keeps one index for rows and columns.
    tokens = jax.tree.map(
        lambda v: jnp.pad(v, [(0, padding[0])] + [(0, 0)] * (v.ndim - 1)),
        pad_rows(tokens, padding[1]),
    )
    known = jax.tree.map(lambda v: jnp.pad(v, (0, padding[0])), sentences_known)
    position = jnp.pad(position, ((0, padding[0]), (0, padding[1])), constant_values=spare)
    row_blocks = position.shape[1] // rows

    def step(edges: _Edges, index: Array) -> tuple[_Edges, None]:
        first_sentence, first_row = index // row_blocks * sentences, index % row_blocks * rows
        group = jax.tree.map(
            lambda v: jax.lax.dynamic_slice_in_dim(v, first_sentence, sentences),
            (tokens, position, known),
        )
        block = jax.tree.map(
            lambda v: jax.lax.dynamic_slice_in_dim(v, first_row, rows, axis=1), group[:2]
        )
        linked = link(block[0], group[0], group[2], first_row, rule, options)
        slot = edges.found + jnp.cumsum(linked.reshape(-1), dtype=jnp.int32) - 1
        slot = jnp.where(linked.reshape(-1), slot, budget)  # out of bounds, so dropped
        senders = jnp.broadcast_to(group[1][:, None, :], linked.shape).reshape(-1)
        receivers = jnp.broadcast_to(block[1][:, :, None], linked.shape).reshape(-1)
        return (
            _Edges(
                edges.senders.at[slot].set(senders, mode="drop"),
                edges.receivers.at[slot].set(receivers, mode="drop"),
                edges.found + jnp.sum(linked, dtype=jnp.int32),
            ),
            None,
        )

    empty = jnp.full((budget,), spare, jnp.int32)
    steps = position.shape[0] // sentences * row_blocks
    edges, _ = jax.lax.scan(step, _Edges(empty, empty, jnp.zeros((), jnp.int32)), jnp.arange(steps))
    return edges


def sparse_graph(
    hidden: Array,
    mask: Array,
    nodes: Array,
    *,
    rule: Rule,
    options: Options,
    edge_budget: int | None = None,
    temperature: None = None,
    stored: Array | None = None,
) -> SparseGraph:
    """Link the raw states `hidden [batch, length, dim]` by `rule` into a padded graph of
    batch·length + 1 nodes.

    `stored` are the states that tell texts apart, where they are not those that are linked.
    `edge_budget` bounds the edges of the whole batch (default batch·length², which always
    suffices); what does not fit is counted in `dropped_edges`.
    """
    batch, length = mask.shape
    spare = batch * length
    budget = edge_budget or batch * length * length
    flat = mask.reshape(-1)
    position = jnp.where(flat, jnp.cumsum(flat, dtype=jnp.int32) - 1, spare).reshape(batch, length)
    order = jnp.nonzero(flat, size=spare, fill_value=0)[0]
    real = jnp.sum(flat, dtype=jnp.int32)
    node_mask = jnp.arange(spare + 1) < real
    with jax.named_scope("token_graph"):
        tokens = tokens_of(hidden, mask)
        known = sentences_of(hidden if stored is None else stored, tokens, rule, options)
        edges = _find_edges(tokens, known, position, rule=rule, options=options, budget=budget)
    flat_nodes = jnp.concatenate(
        [nodes.reshape(spare, -1)[order], jnp.zeros((1, nodes.shape[-1]), nodes.dtype)]
    )
    sentence = jnp.concatenate([order // length, jnp.zeros((1,), order.dtype)]).astype(jnp.int32)
    sentence = jnp.where(node_mask, sentence, batch)
    n_node = jnp.sum(mask, axis=1, dtype=jnp.int32)
    kept = jnp.minimum(edges.found, budget)
    graphs = jnp.where(jnp.arange(budget) < kept, sentence[edges.receivers], batch)
    n_edge = jax.ops.segment_sum(jnp.ones_like(graphs), graphs, batch + 1, indices_are_sorted=True)
    tuple_ = jraph.GraphsTuple(
        nodes=jnp.where(node_mask[:, None], flat_nodes, 0),
        edges=None,
        senders=edges.senders,
        receivers=edges.receivers,
        globals=None,
        n_node=jnp.append(n_node, spare + 1 - real),
        n_edge=n_edge,
    )
    return SparseGraph(tuple_, node_mask, sentence, position, edges.found - kept)


def to_jraph(graph: TokenGraph) -> jraph.GraphsTuple:
    """A graph for jraph's own layers.

    Dense and blockwise graphs are listed on the host, so not under jit; nothing is padded then.
    """
    if isinstance(graph, SparseGraph):
        return graph.tuple
    require(
        isinstance(graph, DenseGraph | BlockwiseGraph),
        "to_jraph takes a TokenGraph of this package",
        type(graph).__name__,
        "Build one with token_graph().",
    )
    assert isinstance(graph, DenseGraph | BlockwiseGraph)
    mask, adjacency = np.asarray(graph.node_mask), np.asarray(graph.adjacency)
    node = np.cumsum(mask.reshape(-1)).reshape(mask.shape) - 1
    sentence, receiver, sender = np.nonzero(adjacency)
    return jraph.GraphsTuple(
        nodes=graph.nodes[mask],
        edges=None,
        senders=jnp.asarray(node[sentence, sender], jnp.int32),
        receivers=jnp.asarray(node[sentence, receiver], jnp.int32),
        globals=None,
        n_node=jnp.asarray(mask.sum(1), jnp.int32),
        n_edge=jnp.asarray(adjacency.sum((1, 2)), jnp.int32),
    )

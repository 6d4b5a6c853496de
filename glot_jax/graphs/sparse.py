"""Sparse backend: real tokens and edges in one row each, with static budgets of nodes and edges.

Right for long texts with few edges, and for code that speaks jraph, whose padded GraphsTuple has
this layout; elsewhere the dense backend is several times faster, because segment reductions are
scatters. All three backends compute the same numbers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
from jax import Array

from glot_jax.graphs.attention import dropout_seed, keep, leaky_relu
from glot_jax.graphs.axes import Size, match_rank
from glot_jax.graphs.flat import EdgeList, EdgeWriter, FlatLayout, exact_budget
from glot_jax.graphs.linking import BLOCK_PAIRS, Linking, refuse_soft_edges, slice_rows
from glot_jax.graphs.rules import Sentences
from glot_jax.graphs.similarity import Tokens, pad_axis, tokens_of
from glot_jax.graphs.token_graph import Loops, TokenGraph
from glot_jax.moved import moved_name

if TYPE_CHECKING:
    import jraph


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseGraph(TokenGraph):
    """See TokenGraph.

    Nodes and edges lie as in FlatLayout and EdgeList: the last node is padding, and so is what
    refers to it. Its graphs are batch + 1, the last one holding all padding nodes and edges.

    - `senders`, `receivers`: [edges] int32, j and i of each edge j -> i, sorted by receivers
    - `n_node`, `n_edge`: [batch + 1] int32, nodes and edges of each graph
    - `sentence`: [nodes] int32, the sentence of a node; batch for padding
    - `position`: [batch, length] int32, the node of a token; the last node for padding
    """

    nodes: Array
    node_mask: Array
    senders: Array
    receivers: Array
    n_node: Array
    n_edge: Array
    sentence: Array
    position: Array
    dropped_edges: Array
    weight: None = None

    @property
    def tuple(self) -> jraph.GraphsTuple:
        """The padded `jraph.GraphsTuple` that this graph is."""
        return self.to_jraph()

    @property
    def rank(self) -> Array:
        """[nodes] int32, real tokens before this one in its sentence."""
        starts = jnp.cumsum(self.n_node) - self.n_node
        position = jnp.arange(self.node_mask.shape[0])
        return position - starts[self.sentence]

    @property
    def _others(self) -> Array:
        """True at edges between two nodes; padding edges are loops of the last node."""
        return self.senders != self.receivers

    @property
    def _batch(self) -> Size:
        return self.position.shape[0]

    # Segment sums and the scatter behind a gather add up in the dtype they are given; bfloat16
    # stops at 256. So everything that is added up here is float32.
    def _to_receivers(self, values: Array) -> Array:
        nodes = self.node_mask.shape[0]
        return jax.ops.segment_sum(
            values,
            self.receivers,
            nodes,
            indices_are_sorted=True,
        )

    def _to_sentences(self, values: Array) -> Array:
        """Add up over each sentence, and over padding: [batch + 1, ..]."""
        graphs = self._batch + 1
        return jax.ops.segment_sum(
            values,
            self.sentence,
            graphs,
            indices_are_sorted=True,
        )

    def _largest_of_sentences(self, values: Array) -> Array:
        graphs = self._batch + 1
        return jax.ops.segment_max(
            values,
            self.sentence,
            graphs,
            indices_are_sorted=True,
        )

    def edge_list(self, budget: int | None = None) -> EdgeList:
        """See TokenGraph.edge_list; edges are sorted, so a smaller list is cut, a larger padded."""
        # Without the padding graph, whose edges are none.
        n_edge = self.n_edge[: self._batch]
        if budget is None:
            budget = exact_budget(n_edge)
        spare = self.node_mask.shape[0] - 1
        # Padding behind, so that what is listed keeps its place.
        room = max(0, budget - self.senders.shape[0])
        senders = pad_axis(self.senders, room, axis=0, fill=spare)
        receivers = pad_axis(self.receivers, room, axis=0, fill=spare)
        writer = EdgeWriter(
            senders=senders[:budget],
            receivers=receivers[:budget],
            count=jnp.sum(n_edge, dtype=jnp.int32),
        )
        listed = writer.finish(n_edge)
        # What was dropped when the graph was built is missing from this list too.
        dropped = listed.dropped_edges + self.dropped_edges
        return dataclasses.replace(listed, dropped_edges=dropped)

    def degree(self, loops: Loops = "as_is") -> Array:
        """See TokenGraph.degree."""
        # All entries: those that are no edges are loops of the padding node, which is no token.
        edges = self._others
        if loops == "as_is":
            edges = jnp.ones_like(edges)
        counted = edges[:, None].astype(jnp.float32)
        degree = self._to_receivers(counted)
        # The own loop of every node was left out of `_others`, and counts once.
        return degree + (loops == "exactly_one")

    def sum(
        self,
        values: Array,
        loops: Loops = "as_is",
    ) -> Array:
        """See TokenGraph.sum."""
        # Before the gather: its gradient is a scatter, which adds up in this dtype.
        exact = values.astype(jnp.float32)
        sent = exact[self.senders]
        if loops == "as_is":
            return self._to_receivers(sent).astype(values.dtype)
        is_other = self._others[:, None]
        others = jnp.where(is_other, sent, 0)
        from_others = self._to_receivers(others)
        total = from_others + exact
        return total.astype(values.dtype)

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
        """See TokenGraph.attend; a token's own loop is computed beside the edges."""
        source = source.astype(jnp.float32)
        target = target.astype(jnp.float32)
        if bias is not None:
            target = target + match_rank(bias, target)
        # A token's own loop is not in the list for certain, so it never is taken from there.
        own = leaky_relu(source + target)
        sums = source[self.senders] + target[self.receivers]
        logits = leaky_relu(sums)
        is_other = self._others[:, None]
        logits = jnp.where(is_other, logits, -jnp.inf)
        nodes = own.shape[0]
        largest = jax.ops.segment_max(
            logits,
            self.receivers,
            nodes,
            indices_are_sorted=True,
        )
        # Finite by the own loop, where a node hears nobody else. The softmax does not depend on
        # what is subtracted, so no gradient is lost.
        largest = jax.lax.stop_gradient(jnp.maximum(largest, own))
        weights = jnp.exp(logits - largest[self.receivers])
        own_weight = jnp.exp(own - largest)
        # The sum of all weights, the dropped ones included: dropout stands behind the softmax.
        total = self._to_receivers(weights) + own_weight
        if dropout:
            weights, own_weight = self._drop(weights, own_weight, dropout, key)
        exact = values.astype(jnp.float32)
        sent = weights[..., None] * exact[self.senders]
        from_others = self._to_receivers(sent)
        mixed = from_others + own_weight[..., None] * exact
        # Divided behind the sum: once a node instead of once an edge.
        mixed = mixed / total[..., None]
        return mixed.astype(values.dtype)

    def _drop(
        self,
        weights: Array,
        own_weight: Array,
        dropout: float,
        key: Array | None,
    ) -> tuple[Array, Array]:
        """Drop attention weights of edges [edges, heads] and of own loops [nodes, heads]."""
        seed = dropout_seed(key)
        rank = self.rank[:, None]
        heads = jnp.arange(weights.shape[-1])[None, :]
        # The words of `keep_pairs` in its order: sentence, receiver, sender, head.
        kept = keep(
            dropout,
            seed,
            self.sentence[self.receivers, None],
            rank[self.receivers],
            rank[self.senders],
            heads,
        )
        own_kept = keep(
            dropout,
            seed,
            self.sentence[:, None],
            rank,
            rank,
            heads,
        )
        return weights * kept, own_weight * own_kept

    def sentence_sum(
        self,
        values: Array,
        weights: Array | None = None,
    ) -> Array:
        """See TokenGraph.sentence_sum."""
        factors = 1.0 if weights is None else weights[:, None]
        values = values.astype(jnp.float32) * factors
        is_real = self.node_mask[:, None]
        real = jnp.where(is_real, values, 0)
        return self._to_sentences(real)[: self._batch]

    def sentence_max(self, values: Array) -> Array:
        """See TokenGraph.sentence_max."""
        largest = self._largest_of_sentences(values)[: self._batch]
        # The maximum over no node is -inf.
        has_tokens = self.n_node[: self._batch, None] > 0
        return jnp.where(has_tokens, largest, 0)

    def softmax(self, scores: Array) -> Array:
        """See TokenGraph.softmax."""
        scores = scores.astype(jnp.float32)
        scores = jnp.where(self.node_mask, scores, 0)
        largest = jax.lax.stop_gradient(self._largest_of_sentences(scores))
        weights = jnp.exp(scores - largest[self.sentence])
        weights = jnp.where(self.node_mask, weights, 0)
        total = self._to_sentences(weights)
        # Padding is a sentence of its own, whose weights are all 0.
        divisor = jnp.where(total > 0, total, 1)
        return weights / divisor[self.sentence]

    def dot(self, values: Array, sentence: Array) -> Array:
        """See TokenGraph.dot."""
        # One more, of zeros, for the padding nodes: their sentence is number `batch`.
        padding = jnp.zeros_like(sentence[:1])
        vectors = jnp.concatenate([sentence, padding])
        # Rounded to the values' dtype as on the other backends, and back so that gradients add up
        # in float32.
        vectors = vectors.astype(values.dtype).astype(jnp.float32)
        return jnp.einsum(
            "nc,nhc->nh",
            values,
            vectors[self.sentence],
            preferred_element_type=jnp.float32,
        )

    def token(self, which: Literal["first", "last"]) -> Array:
        """See TokenGraph.token."""
        ends = jnp.cumsum(self.n_node)
        # A sentence without tokens has an index too, but no node that asks for it.
        index = ends - self.n_node if which == "first" else ends - 1
        position = jnp.arange(self.node_mask.shape[0])
        is_index = position == index[self.sentence]
        chosen = self.node_mask & is_index
        return chosen.astype(jnp.float32)

    def spread(self, sentence: Array) -> Array:
        """See TokenGraph.spread."""
        # float32 for the way back: the gradient of this gather adds up over a sentence.
        exact = sentence.astype(jnp.float32)
        padding = jnp.zeros_like(exact[:1])
        with_padding = jnp.concatenate([exact, padding])
        spread = with_padding[self.sentence]
        return spread.astype(sentence.dtype)

    def to_padded(self, values: Array) -> Array:
        """See TokenGraph.to_padded."""
        is_real = self.node_mask[:, None]
        real = jnp.where(is_real, values, 0)
        return real[self.position]


def sparse_graph(
    linking: Linking,
    nodes: Array,
    *,
    edge_budget: int | None = None,
    temperature: Array | None = None,
) -> SparseGraph:
    """Link a batch by its rule, into a padded graph of batch·length + 1 nodes.

    Args:
        linking: states, rule and its numbers.
        nodes: features [batch, length, width] that layers will see.
        edge_budget: edges the whole batch may hold; default batch·length², which always suffices.
            What does not fit is counted in `dropped_edges`.
        temperature: of soft edges, which this backend cannot hold.

    Raises:
        UsageError: soft edges.
    """
    refuse_soft_edges("sparse", temperature)
    batch, length = linking.mask.shape
    budget = edge_budget or batch * length * length
    # Nodes need no budget: a batch never has more tokens than places.
    layout = FlatLayout.from_mask(linking.mask)
    with jax.named_scope("token_graph"):
        writer = _find_edges(linking, layout.position, budget)
    n_node = jnp.sum(linking.mask, axis=1, dtype=jnp.int32)
    listed = jnp.minimum(writer.count, budget)
    # A listed edge is in the sentence of its receiver, every other entry in the padding graph.
    is_listed = jnp.arange(budget) < listed
    heard_in = layout.sentence[writer.receivers]
    graph = jnp.where(is_listed, heard_in, batch)
    # Counted from what is listed and not from the rule: with too small a budget they differ.
    n_edge = jax.ops.segment_sum(
        jnp.ones_like(graph),
        graph,
        batch + 1,
        indices_are_sorted=True,
    )
    padding_nodes = layout.node_mask.shape[0] - jnp.sum(n_node)
    return SparseGraph(
        nodes=layout.flatten(nodes),
        node_mask=layout.node_mask,
        senders=writer.senders,
        receivers=writer.receivers,
        n_node=jnp.append(n_node, padding_nodes),
        n_edge=n_edge,
        sentence=layout.sentence,
        position=layout.position,
        dropped_edges=writer.count - listed,
    )


def _block_shape(
    batch: Size,
    length: Size,
) -> tuple[Size, Size]:
    """Return the sentences and receiving rows looked at together.

    Short sentences are taken whole, several at once; of a long one, blocks of its rows.
    """
    pairs = length * length
    try:
        if pairs >= BLOCK_PAIRS:
            rows = max(1, BLOCK_PAIRS // length)
            return 1, rows
        # At least one sentence, even of an empty batch: what follows divides by it.
        sentences = max(1, min(batch, BLOCK_PAIRS // pairs))
        return sentences, length
    except jax.errors.InconclusiveDimensionOperation:
        # jax.export with a symbolic batch or length: one whole sentence after the other.
        return 1, length


def _find_edges(
    linking: Linking,
    position: Array,
    budget: Size,
) -> EdgeWriter:
    """List edges in the order of their receivers, block by block."""
    batch, length = linking.mask.shape
    spare = batch * length
    sentences, rows = _block_shape(batch, length)
    more_sentences = -batch % sentences
    more_rows = -length % rows
    tokens = tokens_of(linking.hidden, linking.mask)
    knowledge = linking.sentences(tokens)

    # Padded columns are masked; padding both axes alike keeps one index for rows and columns.
    tokens = tokens.pad_rows(more_rows)
    tokens = Tokens(*(pad_axis(field, more_sentences, axis=0) for field in tokens))
    knowledge = Sentences(*(pad_axis(field, more_sentences, axis=0) for field in knowledge))
    # No edge refers to what is padded here; the spare node would take it if one did.
    position = pad_axis(position, more_rows, axis=1, fill=spare)
    position = pad_axis(position, more_sentences, axis=0, fill=spare)
    # One scan over all blocks of all groups: receivers come out sorted.
    row_blocks = position.shape[1] // rows

    def step(
        writer: EdgeWriter,
        index: Array,
    ) -> tuple[EdgeWriter, None]:
        group_index = index // row_blocks
        first_sentence = group_index * sentences
        block_index = index % row_blocks
        first_row = block_index * rows
        group, senders, known = jax.tree.map(
            lambda field: jax.lax.dynamic_slice_in_dim(field, first_sentence, sentences),
            (tokens, position, knowledge),
        )
        block = slice_rows(group, first_row, rows)
        receivers = jax.lax.dynamic_slice_in_dim(
            senders,
            first_row,
            rows,
            axis=1,
        )
        linked = linking.link(block, group, known, first_row)
        return writer.add(linked, senders, receivers), None

    groups = position.shape[0] // sentences
    indices = jnp.arange(groups * row_blocks)
    empty = EdgeWriter.empty(budget, spare)
    writer, _ = jax.lax.scan(step, empty, indices)
    return writer


_MOVED = {
    "to_jraph": "graphs.jraph_graph",
}
"""Name of 0.1 -> module of today."""


def __getattr__(name: str) -> object:
    """Answer for names that have moved, for one release."""
    return moved_name(__name__, name, _MOVED)

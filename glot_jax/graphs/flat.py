"""Tokens and edges of a batch in one row each, as graph libraries hold them."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, Shaped

from glot_jax.errors import UsageError
from glot_jax.graphs.axes import Size


class FlatLayout(NamedTuple):
    """Where the tokens of a batch stand in one row: real ones first, sentence by sentence.

    There are `nodes = batch·length + 1` places, whatever the mask, so that shapes are static. The
    places behind the real tokens are padding, and so is the last one always: what refers to no
    token refers to it.
    """

    position: Int32[Array, "batch length"]
    """The place of a token; the last one for a padding token."""
    order: Int32[Array, " places"]
    """The token, counted through the batch, at each place but the last."""
    node_mask: Bool[Array, " nodes"]
    """True at the places of real tokens."""
    sentence: Int32[Array, " nodes"]
    """The sentence of each place; `batch` for padding."""

    @classmethod
    def from_mask(cls, mask: Bool[Array, "batch length"]) -> FlatLayout:
        """Lay out the real tokens of `mask`."""
        batch, length = mask.shape
        spare = batch * length
        real = mask.reshape(-1)
        # A running count of real tokens numbers them from 0 on; padding shares the spare place.
        number = jnp.cumsum(real, dtype=jnp.int32) - 1
        position = jnp.where(real, number, spare)
        # A static size: the number of real tokens is not known while tracing.
        (order,) = jnp.nonzero(real, size=spare, fill_value=0)
        count = jnp.sum(real, dtype=jnp.int32)
        node_mask = jnp.arange(spare + 1) < count
        spare_sentence = jnp.zeros((1,), order.dtype)
        sentence = jnp.concatenate([order // length, spare_sentence])
        # Padding belongs to no sentence but to one behind the last: sorted still, as the segment
        # sums over sentences are told.
        sentence = sentence.astype(jnp.int32)
        sentence = jnp.where(node_mask, sentence, batch)
        return cls(
            position.reshape(batch, length),
            order,
            node_mask,
            sentence,
        )

    def flatten(self, values: Shaped[Array, "batch length width"]) -> Shaped[Array, "nodes width"]:
        """Bring the batch's values into the row; padding gets zeros."""
        width = values.shape[-1]
        tokens = values.reshape(-1, width)
        ordered = tokens[self.order]
        spare = jnp.zeros((1, width), values.dtype)
        padded = jnp.concatenate([ordered, spare])
        # `order` repeats token 0 behind the real ones, so what was gathered there is no padding.
        return jnp.where(self.node_mask[:, None], padded, 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EdgeList:
    """The edges of a batch of sentences, sorted by their receivers.

    Nodes are numbered as in FlatLayout. A list made for a budget has that many entries, whatever
    the graph: those behind the edges are loops of the padding node.

    - `senders`: [edges] int32, j of an edge j -> i
    - `receivers`: [edges] int32, i
    - `n_edge`: [batch] int32, listed edges of each sentence
    - `dropped_edges`: [] int32, edges for which the budget had no room
    """

    senders: Array
    receivers: Array
    n_edge: Array
    dropped_edges: Array


class EdgeWriter(NamedTuple):
    """An edge list while it is written; `count` may exceed the budget, the lists do not."""

    senders: Int32[Array, " budget"]
    receivers: Int32[Array, " budget"]
    count: Int32[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]

    @classmethod
    def empty(cls, budget: Size, spare: Size) -> EdgeWriter:
        """Start a list of `budget` loops of the padding node `spare`."""
        entries = jnp.full((budget,), spare, jnp.int32)
        none_yet = jnp.zeros((), jnp.int32)
        return cls(entries, entries, none_yet)

    def add(
        self,
        linked: Bool[Array, "sentences rows length"],
        senders: Int32[Array, "sentences length"],
        receivers: Int32[Array, "sentences rows"],
    ) -> EdgeWriter:
        """Append the edges of a block, row by row; those beyond the budget are only counted."""
        budget = self.senders.shape[0]
        is_edge = linked.reshape(-1)
        # The entry of each edge: a running count, as nothing may be cut out of a traced array by a
        # mask.
        running = jnp.cumsum(is_edge, dtype=jnp.int32)
        slot = self.count + running - 1
        # An index out of bounds is dropped: no edge, or no room for it.
        slot = jnp.where(is_edge, slot, budget)
        sender = jnp.broadcast_to(senders[:, None, :], linked.shape)
        sender = sender.reshape(-1)
        receiver = jnp.broadcast_to(receivers[:, :, None], linked.shape)
        receiver = receiver.reshape(-1)
        added = jnp.sum(linked, dtype=jnp.int32)
        return EdgeWriter(
            self.senders.at[slot].set(sender, mode="drop"),
            self.receivers.at[slot].set(receiver, mode="drop"),
            self.count + added,
        )

    def finish(self, n_edge: Int32[Array, " batch"]) -> EdgeList:
        """Close the list of sentences with `n_edge` edges each; the first ones have room."""
        budget = self.senders.shape[0]
        # Sentence by sentence, edges are listed until the budget is used up.
        ends = jnp.cumsum(n_edge)
        starts = ends - n_edge
        listed = jnp.clip(budget - starts, 0, n_edge)
        dropped = self.count - jnp.minimum(self.count, budget)
        return EdgeList(
            self.senders,
            self.receivers,
            listed,
            dropped,
        )


def exact_budget(n_edge: Int32[Array, " batch"]) -> int:
    """Return the number of all edges, outside of jax.jit.

    Raises:
        UsageError: the number is not known yet, because the graph is traced.
    """
    try:
        return int(jnp.sum(n_edge))
    except jax.errors.ConcretizationTypeError:
        raise UsageError(
            rule="under jax.jit the edges of a graph must be listed for a static budget",
            got="edge_budget=None, which lists as many as there are",
            fix="Pass for example edge_budget=4096; what it has no room for is counted.",
        ) from None  # JAX's own message is about int(), which the caller did not write.

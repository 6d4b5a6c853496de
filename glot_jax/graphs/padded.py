"""What every backend with nodes `[batch, length, .]` shares.

That is all of a TokenGraph that looks at no edge.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from glot_jax.graphs.flat import EdgeList, EdgeWriter, FlatLayout, exact_budget
from glot_jax.graphs.token_graph import TokenGraph


@dataclasses.dataclass(frozen=True)
class PaddedGraph(TokenGraph):
    """Nodes in the batch's own layout. See TokenGraph."""

    nodes: Array
    node_mask: Array

    @property
    def rank(self) -> Array:
        """[batch, length] int32, real tokens before this one in its sentence."""
        # The count at a real token includes it.
        count = jnp.cumsum(self.node_mask, axis=1, dtype=jnp.int32)
        return count - 1

    @abc.abstractmethod
    def edge_counts(self) -> Array:
        """Count the edges of each sentence, [batch] int32; soft ones count whole."""

    @abc.abstractmethod
    def write_edges(self, writer: EdgeWriter, position: Array) -> EdgeWriter:
        """Append all edges, sentence by sentence; `position [batch, length]` numbers the nodes."""

    def edge_list(self, budget: int | None = None) -> EdgeList:
        """See TokenGraph.edge_list."""
        n_edge = self.edge_counts()
        if budget is None:
            budget = exact_budget(n_edge)
        position = FlatLayout.from_mask(self.node_mask).position
        # There is one place more than tokens; the number of the tokens is its index.
        spare = position.size
        writer = EdgeWriter.empty(budget, spare)
        written = self.write_edges(writer, position)
        return written.finish(n_edge)

    def sentence_sum(self, values: Array, weights: Array | None = None) -> Array:
        """See TokenGraph.sentence_sum."""
        if weights is None:
            weights = self.node_mask
        else:
            weights = jnp.where(self.node_mask, weights, 0)
        # Padding has weight 0 and holds finite values, so no masked copy of them is needed.
        return jnp.einsum(
            "bl,blc->bc",
            weights.astype(values.dtype),
            values,
            preferred_element_type=jnp.float32,
        )

    def sentence_max(self, values: Array) -> Array:
        """See TokenGraph.sentence_max."""
        is_real = self.node_mask[..., None]
        real = jnp.where(is_real, values, -jnp.inf)
        largest = jnp.max(real, axis=1)
        # A sentence of padding only: its -inf times a weight of 0 would be NaN.
        has_tokens = jnp.any(self.node_mask, axis=1)
        return jnp.where(has_tokens[:, None], largest, 0)

    def softmax(self, scores: Array) -> Array:
        """See TokenGraph.softmax."""
        scores = scores.astype(jnp.float32)
        scores = jnp.where(self.node_mask, scores, -jnp.inf)
        # Subtracted against overflow only: the result does not depend on it, nor does a gradient.
        largest = jnp.max(scores, axis=1, keepdims=True)
        largest = jax.lax.stop_gradient(largest)
        # A sentence of padding only has no largest score; -inf - -inf would be NaN.
        shift = jnp.where(jnp.isfinite(largest), largest, 0)
        weights = jnp.exp(scores - shift)
        total = jnp.sum(weights, axis=1, keepdims=True)
        return weights / jnp.where(total > 0, total, 1)

    def dot(self, values: Array, sentence: Array) -> Array:
        """See TokenGraph.dot."""
        return jnp.einsum(
            "blc,bhc->blh",
            values,
            sentence.astype(values.dtype),
            preferred_element_type=jnp.float32,
        )

    def token(self, which: Literal["first", "last"]) -> Array:
        """See TokenGraph.token."""
        length = self.node_mask.shape[1]
        position = jnp.arange(length)[None, :]
        # Found by the mask: padding may stand on either side, so it need not be index 0 or n - 1.
        # A sentence of padding only gets an index outside of the text, so no token is chosen.
        if which == "first":
            candidates = jnp.where(self.node_mask, position, length)
            index = jnp.min(candidates, axis=1, keepdims=True)
        else:
            candidates = jnp.where(self.node_mask, position, -1)
            index = jnp.max(candidates, axis=1, keepdims=True)
        is_index = position == index
        return is_index.astype(jnp.float32)

    def spread(self, sentence: Array) -> Array:
        """See TokenGraph.spread."""
        width = sentence.shape[-1]
        shape = (*self.node_mask.shape, width)
        return jnp.broadcast_to(sentence[:, None], shape)

    def to_padded(self, values: Array) -> Array:
        """See TokenGraph.to_padded."""
        is_real = self.node_mask[..., None]
        return jnp.where(is_real, values, 0)

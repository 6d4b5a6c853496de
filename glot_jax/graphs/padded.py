"""What every backend with nodes `[batch, length, .]` shares: all of a TokenGraph that looks at no
edge.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from glot_jax.graphs.token_graph import TokenGraph, keep


@dataclasses.dataclass(frozen=True)
class PaddedGraph(TokenGraph):
    """Nodes in the batch's own layout. See TokenGraph."""

    nodes: Array
    node_mask: Array

    @property
    def rank(self) -> Array:
        """[batch, length] int32, real tokens before this one in its sentence."""
        return jnp.cumsum(self.node_mask, axis=1, dtype=jnp.int32) - 1

    def sentence_sum(self, values: Array, weights: Array | None = None) -> Array:
        weights = self.node_mask if weights is None else jnp.where(self.node_mask, weights, 0)
        return jnp.einsum(
            "bl,blc->bc", weights.astype(values.dtype), values, preferred_element_type=jnp.float32
        )

    def sentence_max(self, values: Array) -> Array:
        largest = jnp.max(jnp.where(self.node_mask[..., None], values, -jnp.inf), axis=1)
        return jnp.where(jnp.any(self.node_mask, axis=1)[:, None], largest, 0)

    def softmax(self, scores: Array) -> Array:
        scores = jnp.where(self.node_mask, scores.astype(jnp.float32), -jnp.inf)
        largest = jax.lax.stop_gradient(jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.exp(scores - jnp.where(jnp.isfinite(largest), largest, 0))
        total = jnp.sum(weights, axis=1, keepdims=True)
        return weights / jnp.where(total > 0, total, 1)

    def dot(self, values: Array, sentence: Array) -> Array:
        return jnp.einsum(
            "blc,bhc->blh",
            values,
            sentence.astype(values.dtype),
            preferred_element_type=jnp.float32,
        )

    def token(self, which: Literal["first", "last"]) -> Array:
        length = self.node_mask.shape[1]
        position = jnp.arange(length)
        if which == "first":
            index = jnp.min(jnp.where(self.node_mask, position, length), axis=1, keepdims=True)
        else:
            index = jnp.max(jnp.where(self.node_mask, position, -1), axis=1, keepdims=True)
        return (position == index).astype(jnp.float32)

    def spread(self, sentence: Array) -> Array:
        return jnp.broadcast_to(sentence[:, None], (*self.node_mask.shape, sentence.shape[-1]))

    def to_padded(self, values: Array) -> Array:
        return jnp.where(self.node_mask[..., None], values, 0)


def kept_pairs(
    dropout: float, head: ArrayLike, seed: ArrayLike, rank: Array, rank_of_row: Array
) -> Array | float:
    """What one head's attention weights `[batch, rows, length]` are multiplied with: `keep` of each
    pair, 1 without dropout.

    rank, rank_of_row: int32 `[batch, length]` and `[batch, rows]`, of sending and of receiving
        tokens.
    """
    if not dropout:
        return 1.0
    return keep(
        dropout,
        jnp.asarray(seed),
        jnp.arange(len(rank))[:, None, None],
        rank_of_row[..., None],
        rank[:, None],
        jnp.asarray(head),
    )

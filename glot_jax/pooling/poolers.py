"""Poolers without a parameter: TokenGraph -> one float32 vector per sentence."""

from __future__ import annotations

from typing import ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from glot_jax.config.train import PoolerConfig
from glot_jax.errors import lookup
from glot_jax.graphs import TokenGraph
from glot_jax.moved import moved_name
from glot_jax.pooling.pooler import POOLERS, Pooler

Position = Literal["first", "last"]

_POSITIONS: dict[str, Position] = {"encoder": "first", "decoder": "last"}
"""Kind of backbone -> the token that has seen the whole text."""


@POOLERS.register("cls")
class Cls(Pooler):
    """The first token of an encoder ([CLS]), the last real token of a decoder."""

    exportable = True

    def __init__(self, dim: int, kind: str = "encoder"):
        self.pooled_dim = dim
        self.position: Position = lookup(_POSITIONS, kind, "kind of backbone")

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> Pooler:
        """Choose First or Last by the kind of backbone."""
        del config, rngs
        position = lookup(_POSITIONS, kind, "kind of backbone")
        return First(dim) if position == "first" else Last(dim)

    def weights(self, graph: TokenGraph) -> Array:
        """1 at one token of each sentence."""
        return graph.token(self.position)


@POOLERS.register("first")
class First(Pooler):
    """The first real token, whatever the backbone."""

    exportable = True
    position: ClassVar[Position] = "first"

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        """1 at one token of each sentence."""
        return graph.token(self.position)


@POOLERS.register("last")
class Last(Pooler):
    """The last real token, whatever the backbone."""

    exportable = True
    position: ClassVar[Position] = "last"

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        """1 at one token of each sentence."""
        return graph.token(self.position)


@POOLERS.register("mean")
class Mean(Pooler):
    """Mean of the real tokens' states."""

    exportable = True

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        """1 / n at each of a sentence's n tokens."""
        # A softmax of equal scores is 1 / n, and 0 at padding and in a sentence of it.
        equal = jnp.zeros_like(graph.node_mask, jnp.float32)
        return graph.softmax(equal)


@POOLERS.register("max")
class Max(Pooler):
    """Largest entry per dimension; a token weighs the share of dimensions it wins, ties shared."""

    exportable = True

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        """The share of dimensions that a token wins."""
        largest = graph.spread(graph.sentence_max(graph.nodes))
        # Exactly equal: the largest entry was copied and never computed with.
        is_largest = graph.nodes == largest
        wins = is_largest & graph.node_mask[..., None]
        # Several tokens may hold the largest entry of a dimension; they share it.
        winners = graph.sentence_sum(wins.astype(jnp.float32))
        ties = graph.spread(winners)
        # A sentence of padding has no winner to divide by.
        divisor = jnp.where(ties > 0, ties, 1)
        return jnp.mean(wins / divisor, axis=-1)

    def pool(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See Pooler.__call__."""
        # Nothing here is dropped, nor normalised over a batch.
        del train, rngs
        # No weighted sum: each dimension may come from another token.
        largest = graph.sentence_max(graph.nodes)
        return largest.astype(jnp.float32)


@POOLERS.register("weighted-mean")
class WeightedMean(Pooler):
    """Position-weighted mean (SGPT, Muennighoff 2022, arXiv 2202.08904, eq. 2).

    It is for decoders, whose later tokens have seen more of the text.

    `z = sum_i w_i x_i`, `w_i = i / sum_{j=1..n} j` for the i-th of a sentence's n real tokens.
    sentence-transformers' `weightedmean` counts positions of the padded text, which is the same
    where padding stands on the right.
    """

    exportable = True

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        """Return i / (1 + 2 + .. + n)."""
        # By rank, not by place: padding on the left must not add weight.
        position = jnp.where(graph.node_mask, graph.rank + 1, 0)
        position = position.astype(jnp.float32)
        total = graph.sentence_sum(position[..., None])
        # At least 1: a sentence of padding has no token to divide by.
        divisor = graph.spread(jnp.maximum(total, 1))
        return position / divisor[..., 0]


@POOLERS.register("mean-sqrt-len")
class MeanSqrtLen(Pooler):
    """`z = sum_i x_i / sqrt(n)` over a sentence's n real tokens.

    It is a mean that grows with the length of its text, sentence-transformers'
    `mean_sqrt_len_tokens`. The weights of a sentence's tokens add up to sqrt(n).
    """

    exportable = True

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        """1 / sqrt(n)."""
        # At least 1: a sentence of padding has no token to divide by.
        counts = jnp.maximum(graph.counts(), 1)
        own_count = graph.spread(counts)[..., 0]
        share = 1 / jnp.sqrt(own_count)
        return jnp.where(graph.node_mask, share, 0)


_MOVED = {
    "AdaPool": "pooling.adapool",
    "AdaPoolAttention": "pooling.adapool",
    "Glot": "pooling.glot",
    "Mlp": "pooling.glot",
    "POOLERS": "pooling.pooler",
    "Pooler": "pooling.pooler",
    "count_parameters": "pooling.parameters",
}
"""Name of 0.1 -> module of today."""


def __getattr__(name: str) -> object:
    """Answer for names that have moved, for one release."""
    return moved_name(__name__, name, _MOVED)

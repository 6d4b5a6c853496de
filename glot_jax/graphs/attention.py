"""The parts of graph attention that every backend shares: its nonlinearity and its dropout."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from glot_jax.errors import UsageError
from glot_jax.graphs.hashing import hash_words, with_probability

NEGATIVE_SLOPE = 0.2
"""Slope of the leaky relu below zero, the constant of graph attention networks."""


# Not jax.nn.leaky_relu: the backends write their backward passes out, and value and slope must
# change at the same place.
def leaky_relu(values: Array) -> Array:
    """Return `values` where they are positive, NEGATIVE_SLOPE times them elsewhere."""
    return jnp.where(values >= 0, values, NEGATIVE_SLOPE * values)


def leaky_relu_slope(values: Array) -> Array:
    """Return the derivative of `leaky_relu` at `values`."""
    return jnp.where(values >= 0, 1.0, NEGATIVE_SLOPE)


def dropout_seed(key: Array | None) -> Array:
    """Return a uint32 that decides which attention weights one layer drops.

    Raises:
        UsageError: there is no key to draw it from.
    """
    if key is None:
        raise UsageError(
            rule="attention dropout must be given a key",
            got="none",
            fix="Pass rngs=nnx.Rngs(dropout=...) with train=True.",
        )
    # One number and not a mask: a key draws by the shape of its array, and the same edge lies in
    # arrays of different shapes in different backends.
    return jax.random.bits(key, (), jnp.uint32)


def keep(dropout: float, seed: Array, *words: Array) -> Array:
    """Return 0 with probability `dropout`, else 1 / (1 - dropout), by a hash of seed and words."""
    dropped = with_probability(dropout, hash_words(seed, *words))
    # What stays is scaled up, so that the expected sum is that of all weights.
    scale = jnp.float32(1 / (1 - dropout))
    return ~dropped * scale


def keep_pairs(
    dropout: float,
    head: ArrayLike,
    seed: ArrayLike,
    rank: Array,
    row_rank: Array,
) -> Array | float:
    """Return the factors of one head's attention weights `[batch, rows, length]`.

    They are 1 without dropout, else `keep` of each pair of tokens.

    Args:
        dropout: share of the weights that become 0.
        head: number of the head.
        seed: uint32 scalar, see `dropout_seed`.
        rank: int32 [batch, length], ranks of the sending tokens in their sentences.
        row_rank: int32 [batch, rows], ranks of the receiving tokens.
    """
    # A Python number: the seed may be a mere placeholder, and nothing is hashed.
    if not dropout:
        return 1.0
    # Ranks, not positions: padding on the left must not change what is dropped.
    sentence = jnp.arange(rank.shape[0])[:, None, None]
    receiver = row_rank[..., None]
    sender = rank[:, None]
    return keep(
        dropout,
        jnp.asarray(seed),
        sentence,
        receiver,
        sender,
        jnp.asarray(head),
    )

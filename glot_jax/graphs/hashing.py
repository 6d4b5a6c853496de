"""Pseudo-random bits as a pure function of what they belong to.

Every backend draws the same ones that way. A key of jax.random is tied to the shape of an array,
and the same edge lies in arrays of different shapes in different backends. Here a bit is a hash of
words such as (text, rank i, rank j, seed).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped, UInt32

from glot_jax.graphs.axes import match_rank


def _finalise(word: Array) -> Array:
    """MurmurHash3's 32-bit finaliser: every bit of the input moves half of the output's."""
    # uint32 products wrap around modulo 2^32, which the mixing relies on.
    word = word ^ (word >> 16)
    word = word * jnp.uint32(0x85EBCA6B)
    word = word ^ (word >> 13)
    word = word * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def hash_words(*words: Shaped[Array, "..."] | int) -> UInt32[Array, "..."]:
    """Return a uint32 of any number of integers; their order counts.

    They are broadcast against each other, and taken modulo 2^32.
    """
    # 2^32 divided by the golden ratio: a start with no pattern in its bits.
    state = jnp.uint32(0x9E3779B9)
    for word in words:
        if isinstance(word, int):
            # Taken modulo 2^32 in Python: jnp.uint32 refuses what does not fit.
            word = jnp.uint32(word % 2**32)
        # Multiplied before a word is added, so that exchanged words differ.
        state = state * jnp.uint32(5)
        state = state + word.astype(jnp.uint32)
        state = state + jnp.uint32(0xE6546B64)
        # Finalised after every word, and not only at the end as MurmurHash3 does: words are small
        # numbers in a row, such as ranks.
        state = _finalise(state)
    return state


def with_probability(
    share: Float[Array, "..."] | float,
    hashed: UInt32[Array, "..."],
) -> Bool[Array, "..."]:
    """True for that share of the hashes: exactly none at 0, exactly all at 1."""
    # 24 bits are what a float32 holds exactly: with 32 the largest would be rounded up to 1.
    leading = (hashed >> 8).astype(jnp.float32)
    uniform = leading * jnp.float32(2**-24)
    return uniform < share


def fingerprint(
    hidden: Float[Array, "*batch length dim"],
    mask: Bool[Array, "*batch length"],
    rank: Shaped[Array, "*batch length"],
) -> UInt32[Array, "*batch"]:
    """Return a text's identity: a hash of its real tokens' states in order.

    Padding around them does not change it.
    """
    exact = hidden.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(exact, jnp.uint32)
    factor = hash_words(jnp.arange(hidden.shape[-1]))
    # Odd, so that no bit of an entry is lost.
    factor = factor | jnp.uint32(1)
    # Sums of integers modulo 2^32 are the same in any order, unlike those of floats: no backend and
    # no padding can move a bit.
    states = jnp.sum(bits * match_rank(factor, bits), axis=-1, dtype=jnp.uint32)
    # The rank makes the order of the tokens count, which a sum alone would not.
    tokens = hash_words(states, rank)
    real = jnp.where(mask, tokens, 0)
    total = jnp.sum(real, axis=-1, dtype=jnp.uint32)
    return hash_words(total)

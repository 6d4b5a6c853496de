"""Pseudo-random bits as a pure function of what they belong to, so that every backend draws the
same ones.

A key of jax.random is tied to the shape of an array, and the same edge lies in arrays of different
shapes in different backends. Here a bit is a hash of words such as (text, rank i, rank j, seed).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped, UInt32


def _finalise(word: Array) -> Array:
    """MurmurHash3's 32-bit finaliser: every bit of the input moves half of the output's."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def hash_words(*words: Shaped[Array, "..."] | int) -> UInt32[Array, "..."]:
    """A uint32 from any number of integers (broadcast against each other, taken modulo 2^32); their
    order counts.
    """
    state = jnp.uint32(0x9E3779B9)
    for word in words:
        word = jnp.uint32(word % 2**32) if isinstance(word, int) else word.astype(jnp.uint32)
        state = _finalise(state * jnp.uint32(5) + word + jnp.uint32(0xE6546B64))
    return state


def with_probability(
    share: Float[Array, "..."] | float, hashed: UInt32[Array, "..."]
) -> Bool[Array, "..."]:
    """True for that share of the hashes: exactly none at 0, exactly all at 1."""
    return (hashed >> 8).astype(jnp.float32) * jnp.float32(2**-24) < share


def fingerprint(
    hidden: Float[Array, "*batch length dim"],
    mask: Bool[Array, "*batch length"],
    rank: Shaped[Array, "*batch length"],
) -> UInt32[Array, "*batch"]:
    """A text's identity: a hash of its real tokens' states in order, whatever padding stands around
    them.
    """
    bits = jax.lax.bitcast_convert_type(hidden.astype(jnp.float32), jnp.uint32)
    factor = hash_words(jnp.arange(hidden.shape[-1])) | jnp.uint32(
        1
    )  # odd, so that no bit of an entry is lost
    tokens = hash_words(jnp.sum(bits * factor, axis=-1, dtype=jnp.uint32), rank)
    return hash_words(jnp.sum(jnp.where(mask, tokens, 0), axis=-1, dtype=jnp.uint32))

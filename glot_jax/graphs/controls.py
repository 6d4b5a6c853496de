"""Controls: the rule's edges replaced by as many elsewhere, so that only their places differ.

What a graph is good for is what is lost when its edges are put somewhere else. A control has the
rule's own number of edges in each text, whatever the rule, and its loops; a rewired one has the
degree of each token as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt32

from glot_jax.graphs.axes import match_rank
from glot_jax.graphs.hashing import hash_words, with_probability

TRADES = 10
"""Trades for each token of a text: it takes part in about twenty, of which each exchanges what only
one of two tokens is linked to. A global trade of all tokens is one for two of them, and about
twenty of those are enough in Carstens, Hamann, Meyer and others (2018).
"""


class Texts(NamedTuple):
    """What a control knows of the texts of a batch."""

    fingerprint: UInt32[Array, " batch"]
    """Hash of the text's stored states, the same in every batch."""
    rank: Int32[Array, "batch length"]
    """Real tokens before this one."""
    mask: Bool[Array, "batch length"]
    """True at real tokens."""


Control = Callable[[Array, Texts, int, bool], Array]
"""Edges [batch, length, length], texts, seed, whether the rule is symmetric -> other edges."""


def random_like(
    edges: Bool[Array, "batch length length"],
    texts: Texts,
    seed: int,
    symmetric: bool,
) -> Bool[Array, "batch length length"]:
    """As many edges between different tokens on average, where a seeded hash puts them."""
    own = match_rank(jnp.eye(edges.shape[-1], dtype=bool), edges)
    loops = edges & own
    between = jnp.sum(edges & ~own, axis=(1, 2), dtype=jnp.float32)
    count = jnp.sum(texts.mask, axis=-1, dtype=jnp.float32)
    # A text of one token has no pair to divide by.
    pairs = jnp.maximum(count * (count - 1), 1)
    density = between / pairs
    receiver = texts.rank[:, :, None]
    sender = texts.rank[:, None, :]
    if symmetric:
        # An unordered pair is hashed once.
        receiver, sender = jnp.maximum(receiver, sender), jnp.minimum(receiver, sender)
    hashed = hash_words(
        texts.fingerprint[:, None, None],
        receiver,
        sender,
        seed,
    )
    chosen = with_probability(density[:, None, None], hashed)
    real = texts.mask[:, :, None] & texts.mask[:, None, :]
    return (chosen & real & ~own) | loops


def rewired(
    edges: Bool[Array, "batch length length"],
    texts: Texts,
    seed: int,
    symmetric: bool,
) -> Bool[Array, "batch length length"]:
    """Every token has as many edges as before, in and out, but to others.

    By trades (curveball): two tokens, drawn by a seeded hash, put what only one of them is linked
    to into a pool and draw from it as many as each has put in. In an undirected graph the other
    ends follow, so that it stays one. A text's edges hang on its own states, length and seed, not
    on the batch that it is in or on its padding.
    """
    batch, length, _ = edges.shape
    text = jnp.arange(batch)
    count = jnp.sum(texts.mask, axis=-1, dtype=jnp.int32)
    # Places of the real tokens by rank: padding stands on either side, or in between.
    places = jnp.argsort(~texts.mask, axis=-1, stable=True)
    position = jnp.arange(length)[None, :]

    def trade(number: Array, edges: Array) -> Array:
        first, second = _two_tokens(texts.fingerprint, number, seed, count)
        here = places[text, first]
        there = places[text, second]
        heard = edges[text, here]
        other = edges[text, there]
        # Their own loops and the edge between them stay.
        apart = (position != here[:, None]) & (position != there[:, None])
        pool = (heard ^ other) & apart
        share = jnp.sum(heard & pool, axis=-1, dtype=jnp.int32)
        drawn = _draw(pool, share, texts, number, seed)
        # Shorter texts have had all their trades when longer ones of the batch have not.
        active = (number < TRADES * count) & (count > 2)
        pool = pool & active[:, None]
        heard = jnp.where(pool, drawn, heard)
        other = jnp.where(pool, ~drawn, other)
        edges = edges.at[text, here].set(heard)
        edges = edges.at[text, there].set(other)
        if symmetric:
            # Whoever is heard hears back.
            edges = edges.at[text, :, here].set(heard)
            edges = edges.at[text, :, there].set(other)
        return edges

    return jax.lax.fori_loop(0, TRADES * length, trade, edges)


def _two_tokens(
    fingerprint: Array,
    number: Array,
    seed: int,
    count: Array,
) -> tuple[Array, Array]:
    """Ranks of two different tokens of each text."""
    several = jnp.maximum(count, 2).astype(jnp.uint32)
    first = hash_words(fingerprint, number, seed, 1) % several
    step = hash_words(fingerprint, number, seed, 2) % (several - 1)
    second = (first + step + jnp.uint32(1)) % several
    return first.astype(jnp.int32), second.astype(jnp.int32)


def _draw(
    pool: Array,
    share: Array,
    texts: Texts,
    number: Array,
    seed: int,
) -> Array:
    """`share` tokens of each text's pool, those with the lowest hashes."""
    hashed = hash_words(
        texts.fingerprint[:, None],
        texts.rank,
        number,
        seed,
    )
    # The rank in the low bits: with two equal hashes a token more would be drawn.
    key = (hashed & jnp.uint32(0xFFFF0000)) | texts.rank.astype(jnp.uint32)
    key = jnp.where(pool, key, jnp.uint32(0xFFFFFFFF))
    ordered = jnp.sort(key, axis=-1)
    last = jnp.maximum(share - 1, 0)
    least = jnp.take_along_axis(ordered, last[:, None], axis=-1)
    return pool & (key <= least) & (share > 0)[:, None]


CONTROLS: dict[str, Control] = {
    "random": random_like,
    "rewired": rewired,
}
"""Name -> control, the names that `--control` takes beside none."""

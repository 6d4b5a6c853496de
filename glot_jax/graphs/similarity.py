"""Which tokens are linked: the cosine of raw states and the rules that read it (paper section 3.2,
step 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Shaped, UInt32

from glot_jax.config.train import GraphConfig
from glot_jax.graphs.hashing import fingerprint, hash_words, with_probability

BLOCK_PAIRS = 1 << 20
"""Candidate pairs looked at together where memory must not grow with length squared."""


class Options(NamedTuple):
    """Numbers that rules read."""

    tau: float | Array
    """A Python number, or a trained scalar."""
    k: int = 8
    window: int = 4
    seed: int = 0

    @classmethod
    def of(cls, config: GraphConfig, tau: Array | None = None) -> Options:
        """Those of a config; `tau` stands in for its own where it is trained."""
        return cls(config.tau if tau is None else tau, config.k, config.window, config.graph_seed)


class Sentences(NamedTuple):
    """What the random rule knows of each sentence; zeros for the others, which do not look."""

    fingerprint: UInt32[Array, "*batch"]
    density: Float[Array, "*batch"]
    """Share of the pairs i != j that the threshold rule links."""


class Pairs(NamedTuple):
    """What a rule may look at, for `rows` receiving tokens i against all `length` sending tokens j
    of a sentence.

    A rule that ignores a field costs nothing: the compiler drops what computes it.
    """

    similarity: Float[Array, "*batch rows length"]
    """cos(x_i, x_j), float32; 0 where either state is the zero vector."""
    diagonal: Bool[Array, "*batch rows length"]
    """i is j."""
    nonzero: Bool[Array, "*batch rows length"]
    """Neither x_i nor x_j is the zero vector."""
    real: Bool[Array, "*batch rows length"]
    """Neither i nor j is padding."""
    row_rank: Int32[Array, "*batch rows 1"]
    """Real tokens before i in its sentence."""
    column_rank: Int32[Array, "*batch 1 length"]
    sentences: Sentences


def threshold(pairs: Pairs, options: Options) -> Bool[Array, "*batch rows length"]:
    """S_ij > tau, strictly; a non-zero token is linked to itself by definition, a zero vector to
    nothing.

    At tau = 1 there is no edge: a rounded cosine of 1.0000001 must not pass.
    """
    return (
        ((pairs.similarity > options.tau) | pairs.diagonal)
        & pairs.nonzero
        & jnp.asarray(options.tau < 1)
    )


def nearest(pairs: Pairs, options: Options) -> Bool[Array, "*batch rows length"]:
    """The k most similar tokens, itself always among them, ties to the lower rank; not symmetric.

    Zero vectors: none.
    """
    possible = pairs.real & pairs.nonzero
    scores = jnp.where(possible, jnp.where(pairs.diagonal, 2.0, pairs.similarity), -jnp.inf)
    least = jax.lax.top_k(scores, min(options.k, scores.shape[-1]))[0][..., -1:]
    above, tied = scores > least, scores == least
    room = options.k - jnp.sum(above, axis=-1, keepdims=True)
    return (above | (tied & (jnp.cumsum(tied, axis=-1) <= room))) & possible


def window(pairs: Pairs, options: Options) -> Bool[Array, "*batch rows length"]:
    """Tokens at most `window` real tokens away: the order of words instead of their meaning."""
    return jnp.abs(pairs.row_rank - pairs.column_rank) <= min(options.window, 2**31 - 1)


def self_only(pairs: Pairs, options: Options) -> Bool[Array, "*batch rows length"]:
    """Control: every token sees itself alone, so the graph adds nothing."""
    return pairs.diagonal


def complete(pairs: Pairs, options: Options) -> Bool[Array, "*batch rows length"]:
    """Control: every token sees every token of its sentence, so the similarities add nothing."""
    return jnp.ones_like(pairs.diagonal)


def random_edges(pairs: Pairs, options: Options) -> Bool[Array, "*batch rows length"]:
    """Control: as many edges as the threshold rule's on average, at places that a seeded hash
    picks; symmetric.

    The same text has the same edges in every batch, bucket and epoch: they hang on its states, not
    on its place.
    """
    low, high = (
        jnp.minimum(pairs.row_rank, pairs.column_rank),
        jnp.maximum(pairs.row_rank, pairs.column_rank),
    )
    text = pairs.sentences.fingerprint[..., None, None]
    chosen = with_probability(
        pairs.sentences.density[..., None, None], hash_words(text, low, high, options.seed)
    )
    return chosen | pairs.diagonal


Rule = Callable[[Pairs, Options], Array]
RULES: dict[str, Rule] = {
    "threshold": threshold,
    "knn": nearest,
    "window": window,
    "self": self_only,
    "complete": complete,
    "random": random_edges,
}


def scale_of(hidden: Float[Array, "*batch dim"]) -> Float[Array, "*batch 1"]:
    """The power of two just above a token's largest entry (1 for a zero vector): dividing by it is
    exact.
    """
    largest = jnp.max(jnp.abs(hidden.astype(jnp.float32)), axis=-1, keepdims=True)
    _, exponent = jnp.frexp(largest)
    # Two factors, because 2^127 and beyond are no float32 although their quotients are.
    return jnp.where(largest > 0, jnp.ldexp(jnp.float32(1), jnp.clip(exponent, -126, 126)), 1.0)


_T = TypeVar("_T")
_ORDINARY = 2.0**-50, 2.0**50
"""Squares of norms between which a product of two states, and every entry of it that counts, is a
normal float32.
"""


class Tokens(NamedTuple):
    """Real and padding tokens of whole sentences, or of a block of their rows, ready to be
    linked.
    """

    states: Shaped[Array, "*batch length dim"]
    """Scaled by powers of two so that neither norm nor dot product overflows; float16 as stored."""
    inverse_norm: Float[Array, "*batch length"]
    """Turns a dot product of `states` into a cosine."""
    mask: Bool[Array, "*batch length"]
    rank: Int32[Array, "*batch length"]
    """Real tokens before this one."""
    nonzero: Bool[Array, "*batch length"]
    """Not the zero vector."""


def tokens_of(
    hidden: Shaped[Array, "*batch length dim"], mask: Bool[Array, "*batch length"]
) -> Tokens:
    """Ready to be linked. No gradient flows: the graph is a constant of the head."""
    hidden = jax.lax.stop_gradient(hidden)
    if hidden.dtype != jnp.float16:
        scaled = hidden.astype(jnp.float32) / scale_of(hidden)
        hidden = scaled.astype(hidden.dtype)
    # Scaled, the largest entry's square is .25 or more (float16's least: 3.6e-15), so only a zero
    # vector has norm 0.
    return _tokens(hidden, mask, _square_of_norm(hidden))


def with_tokens(
    build: Callable[[Tokens], _T],
    hidden: Shaped[Array, "*batch length dim"],
    mask: Bool[Array, "*batch length"],
    rule: Rule,
) -> _T:
    """`build(tokens_of(hidden, mask))`, on a CPU without a scaled copy of the states wherever no
    token needs one.

    A power of two changes no digit: while neither squares nor products leave the range of float32,
        scaled and plain
    states have the same cosines. On a GPU they are scaled always: a branch there waits for the
    host.
    """

    def scaled(hidden: Array, mask: Array) -> _T:
        return build(tokens_of(hidden, mask))

    def chosen(hidden: Array, mask: Array) -> _T:
        square = _square_of_norm(hidden)
        ordinary = jnp.all(~mask | ((square > _ORDINARY[0]) & (square < _ORDINARY[1])))
        return jax.lax.cond(
            ordinary, lambda: build(_tokens(hidden, mask, square)), lambda: scaled(hidden, mask)
        )

    hidden = jax.lax.stop_gradient(hidden)
    if hidden.dtype == jnp.float16 or rule in (window, self_only, complete):
        return scaled(hidden, mask)
    return jax.lax.platform_dependent(hidden, mask, cpu=chosen, default=scaled)


def _square_of_norm(hidden: Array) -> Array:
    return jnp.sum(jnp.square(hidden.astype(jnp.float32)), axis=-1)


def _tokens(hidden: Array, mask: Array, square: Array) -> Tokens:
    norm = jnp.sqrt(square)
    rank = jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1
    return Tokens(hidden, 1.0 / jnp.maximum(norm, 1e-8), mask, rank, norm > 0)


def similarity(rows: Tokens, columns: Tokens) -> Float[Array, "*batch rows length"]:
    """cos(x_i, x_j) in float32 from states as stored: products of 16-bit entries are exact in a
    float32 accumulator.
    """
    products = jnp.einsum(
        "...id,...jd->...ij",
        rows.states,
        columns.states,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return products * rows.inverse_norm[..., :, None] * columns.inverse_norm[..., None, :]


def pairs_of(rows: Tokens, columns: Tokens, sentences: Sentences, first_row: Array | int) -> Pairs:
    """All a rule may ask about receiving tokens `first_row + i` and sending tokens j."""
    position = first_row + jnp.arange(rows.mask.shape[-1])
    shape = (*rows.mask.shape, columns.mask.shape[-1])
    return Pairs(
        similarity=similarity(rows, columns),
        diagonal=jnp.broadcast_to(position[:, None] == jnp.arange(shape[-1]), shape),
        nonzero=rows.nonzero[..., :, None] & columns.nonzero[..., None, :],
        real=rows.mask[..., :, None] & columns.mask[..., None, :],
        row_rank=rows.rank[..., :, None],
        column_rank=columns.rank[..., None, :],
        sentences=sentences,
    )


def link(
    rows: Tokens,
    columns: Tokens,
    sentences: Sentences,
    first_row: Array | int,
    rule: Rule,
    options: Options,
) -> Bool[Array, "*batch rows length"]:
    """Edges j -> i of a block of receiving tokens `first_row + i`, between real tokens only."""
    pairs = pairs_of(rows, columns, sentences, first_row)
    return rule(pairs, options) & pairs.real


def sentences_of(
    stored: Shaped[Array, "batch length all"], tokens: Tokens, rule: Rule, options: Options
) -> Sentences:
    """What `rule` must know of whole sentences before it sees any block of one; `stored` states
    tell texts apart.
    """
    batch = tokens.mask.shape[:-1]
    unknown = Sentences(jnp.zeros(batch, jnp.uint32), jnp.zeros(batch))
    if rule is not random_edges:
        return unknown
    linked = count_edges(tokens, unknown, threshold, options) - count_edges(
        tokens, unknown, _own_loops, options
    )
    length = jnp.sum(tokens.mask, axis=-1, dtype=jnp.float32)
    density = linked / jnp.maximum(length * (length - 1), 1)
    return Sentences(fingerprint(jax.lax.stop_gradient(stored), tokens.mask, tokens.rank), density)


def _own_loops(pairs: Pairs, options: Options) -> Array:
    """Loops of the threshold rule's graph."""
    return threshold(pairs, options) & pairs.diagonal


def count_edges(
    tokens: Tokens, sentences: Sentences, rule: Rule, options: Options
) -> Int32[Array, " batch"]:
    """Edges of each sentence, block of rows by block of rows: never a whole [length, length] array
    of a long text.
    """
    batch, length = tokens.mask.shape
    rows = min(length, max(1, BLOCK_PAIRS // max(1, batch * length)))
    padded = pad_rows(tokens, -length % rows)

    def step(total: Array, index: Array) -> tuple[Array, None]:
        block = jax.tree.map(
            lambda v: jax.lax.dynamic_slice_in_dim(v, index * rows, rows, axis=1), padded
        )
        linked = link(block, padded, sentences, index * rows, rule, options)
        return total + jnp.sum(linked, axis=(1, 2), dtype=jnp.int32), None

    total, _ = jax.lax.scan(
        step, jnp.zeros(batch, jnp.int32), jnp.arange(padded.mask.shape[1] // rows)
    )
    return total


def pad_rows(tokens: Tokens, count: int) -> Tokens:
    """`count` padding tokens more at the end of every sentence."""
    return Tokens(*(jnp.pad(of, [(0, 0), (0, count)] + [(0, 0)] * (of.ndim - 2)) for of in tokens))

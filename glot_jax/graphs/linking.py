"""Which tokens of a batch are linked: a rule asked about pairs of tokens, block by block."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, Shaped, UInt32

from glot_jax.errors import UsageError
from glot_jax.graphs.axes import Size
from glot_jax.graphs.controls import Control, Texts
from glot_jax.graphs.hashing import fingerprint
from glot_jax.graphs.rules import Pairs, Rule, RuleOptions, Sentences, threshold
from glot_jax.graphs.similarity import Tokens, similarity

BLOCK_PAIRS = 1 << 20
"""Candidate pairs looked at together where memory must not grow with length squared."""


@dataclasses.dataclass(frozen=True)
class Linking:
    """What decides the edges of a batch: its states, and the rule that reads them."""

    hidden: Shaped[Array, "batch length dim"]
    """Raw states, whose cosines are taken."""
    mask: Bool[Array, "batch length"]
    """True at real tokens."""
    stored: Shaped[Array, "batch length all"]
    """What tells texts apart: the states as stored. Where layers are mixed, `hidden` moves with the
    trained weights and these do not.
    """
    rule: Rule
    options: RuleOptions
    control: Control | None = None
    """What puts the rule's edges elsewhere, on the dense backend."""

    def sentences(self, tokens: Tokens) -> Sentences:
        """Return what the rule must know of whole sentences before it sees any block of one."""
        batch = tokens.mask.shape[:-1]
        no_text = jnp.zeros(batch, jnp.uint32)
        unknown = Sentences(no_text, jnp.zeros(batch))
        # Counting edges compares all pairs once more, which only such a rule shall pay for.
        if not self.rule.reads_texts:
            return unknown
        # Density over pairs of different tokens: loops are there whatever tau is.
        every = count_edges(tokens, unknown, threshold, self.options)
        loops = count_edges(tokens, unknown, _OWN_LOOPS, self.options)
        length = jnp.sum(tokens.mask, axis=-1, dtype=jnp.float32)
        # A text of one token or none has no such pair to divide by.
        pairs = jnp.maximum(length * (length - 1), 1)
        density = (every - loops) / pairs
        return Sentences(self.fingerprint(tokens), density)

    def fingerprint(self, tokens: Tokens) -> UInt32[Array, " batch"]:
        """Return what tells the texts apart, the same in every batch."""
        # Bits have no derivative.
        stored = jax.lax.stop_gradient(self.stored)
        return fingerprint(stored, tokens.mask, tokens.rank)

    def controlled(
        self,
        edges: Bool[Array, "batch length length"],
        tokens: Tokens,
    ) -> Bool[Array, "batch length length"]:
        """Return whole sentences' edges as the control puts them; without one, as they are."""
        if self.control is None:
            return edges
        texts = Texts(
            self.fingerprint(tokens),
            tokens.rank,
            tokens.mask,
        )
        return self.control(
            edges,
            texts,
            self.options.seed,
            self.rule.symmetric,
        )

    def link(
        self,
        rows: Tokens,
        columns: Tokens,
        sentences: Sentences,
        first_row: Array | int = 0,
    ) -> Bool[Array, "*batch rows length"]:
        """Return the edges j -> i of a block of receiving tokens `first_row + i`."""
        pairs = pairs_of(rows, columns, sentences, first_row)
        return link(self.rule, self.options, pairs)


def pairs_of(
    rows: Tokens,
    columns: Tokens,
    sentences: Sentences,
    first_row: Array | int,
) -> Pairs:
    """Return all that a rule may ask about a block of pairs of tokens.

    Args:
        rows: receiving tokens `first_row + i`.
        columns: sending tokens j, whole sentences.
        sentences: what is known of each text.
        first_row: place of the first receiving token in its sentence.
    """
    length = columns.mask.shape[-1]
    row = jnp.arange(rows.mask.shape[-1])
    position = first_row + row
    # By place and not by rank: padding tokens share ranks with real ones.
    diagonal = position[:, None] == jnp.arange(length)[None, :]
    nonzero = _both(rows.nonzero, columns.nonzero)
    real = _both(rows.mask, columns.mask)
    return Pairs(
        similarity=similarity(rows, columns),
        diagonal=jnp.broadcast_to(diagonal, real.shape),
        nonzero=nonzero,
        real=real,
        row_rank=rows.rank[..., :, None],
        column_rank=columns.rank[..., None, :],
        sentences=sentences,
    )


def _both(rows: Array, columns: Array) -> Array:
    """Return where receiver and sender are both true, [*batch, rows, length]."""
    receivers = rows[..., :, None]
    senders = columns[..., None, :]
    return receivers & senders


def link(
    rule: Rule,
    options: RuleOptions,
    pairs: Pairs,
) -> Bool[Array, "*batch rows length"]:
    """Return the rule's edges between real tokens, whatever it says of padding."""
    return rule(pairs, options) & pairs.real


def _own_loops(pairs: Pairs, options: RuleOptions) -> Array:
    return threshold(pairs, options) & pairs.diagonal


# Not registered: nobody is to choose it by name.
_OWN_LOOPS = Rule(_own_loops, threshold.reads)
"""The loops of the threshold rule's graph."""


def count_edges(
    tokens: Tokens,
    sentences: Sentences,
    rule: Rule,
    options: RuleOptions,
) -> Int32[Array, " batch"]:
    """Count the edges of each sentence, block of rows by block of rows.

    There is never a whole [length, length] array of a long text.
    """
    batch, length = tokens.mask.shape
    rows = _rows_at_once(batch, length)
    # The last block must be full: a slice that reached over the end would be moved back, and its
    # rows counted twice.
    missing = -length % rows
    padded = tokens.pad_rows(missing)

    def step(
        total: Array,
        index: Array,
    ) -> tuple[Array, None]:
        first_row = index * rows
        block = slice_rows(padded, first_row, rows)
        pairs = pairs_of(block, padded, sentences, first_row)
        linked = link(rule, options, pairs)
        edges = jnp.sum(linked, axis=(1, 2), dtype=jnp.int32)
        return total + edges, None

    # A scan and not a Python loop: one block is compiled, however long the text.
    blocks = jnp.arange(padded.mask.shape[1] // rows)
    none_yet = jnp.zeros(batch, jnp.int32)
    total, _ = jax.lax.scan(step, none_yet, blocks)
    return total


def _rows_at_once(batch: Size, length: Size) -> Size:
    """Return how many receiving tokens are looked at together: about BLOCK_PAIRS pairs."""
    try:
        # Pairs of one receiver in every sentence; a batch may be empty.
        pairs = max(1, batch * length)
        rows = max(1, BLOCK_PAIRS // pairs)
        return min(length, rows)
    except jax.errors.InconclusiveDimensionOperation:
        # A symbolic shape (jax.export) has no number of blocks: all rows at once.
        return length


def slice_rows(
    tokens: Tokens,
    first_row: Array | int,
    rows: Size,
) -> Tokens:
    """Cut `rows` tokens out of every sentence, from `first_row` on."""
    fields = []
    for field in tokens:
        # Of a static size at a traced place: an ordinary slice cannot start at a tracer.
        part = jax.lax.dynamic_slice_in_dim(
            field,
            first_row,
            rows,
            axis=1,
        )
        fields.append(part)
    return Tokens(*fields)


def refuse_soft_edges(backend: str, temperature: Array | None) -> None:
    """Refuse a temperature on a backend whose edges are there or not.

    Raises:
        UsageError: there is one.
    """
    if temperature is not None:
        raise UsageError(
            rule="soft edges must be held by the dense backend",
            got=f"backend={backend!r} with a temperature",
            fix="Use backend='dense', or a fixed tau.",
        )

"""Which tokens of a batch are linked: a rule asked about pairs of tokens, block by block."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, Shaped

from glot_jax.errors import UsageError
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

    def sentences(self, tokens: Tokens) -> Sentences:
        """Return what the rule must know of whole sentences before it sees any block of one."""
        batch = tokens.mask.shape[:-1]
        unknown = Sentences(jnp.zeros(batch, jnp.uint32), jnp.zeros(batch))
        if not self.rule.reads_texts:
            return unknown
        # Density over pairs of different tokens: loops are there whatever tau is.
        every = count_edges(tokens, unknown, threshold, self.options)
        loops = count_edges(tokens, unknown, _OWN_LOOPS, self.options)
        length = jnp.sum(tokens.mask, axis=-1, dtype=jnp.float32)
        density = (every - loops) / jnp.maximum(length * (length - 1), 1)
        stored = jax.lax.stop_gradient(self.stored)
        return Sentences(fingerprint(stored, tokens.mask, tokens.rank), density)

    def link(
        self,
        rows: Tokens,
        columns: Tokens,
        sentences: Sentences,
        first_row: Array | int = 0,
    ) -> Bool[Array, "*batch rows length"]:
        """Return the edges j -> i of a block of receiving tokens `first_row + i`."""
        return link(self.rule, self.options, pairs_of(rows, columns, sentences, first_row))


def pairs_of(
    rows: Tokens,
    columns: Tokens,
    sentences: Sentences,
    first_row: Array | int,
) -> Pairs:
    """Return all that a rule may ask about receiving tokens `first_row + i` and sending tokens
    j.
    """
    length = columns.mask.shape[-1]
    position = first_row + jnp.arange(rows.mask.shape[-1])
    # By place and not by rank: padding tokens share ranks with real ones.
    diagonal = position[:, None] == jnp.arange(length)
    return Pairs(
        similarity=similarity(rows, columns),
        diagonal=jnp.broadcast_to(diagonal, (*rows.mask.shape, length)),
        nonzero=rows.nonzero[..., :, None] & columns.nonzero[..., None, :],
        real=rows.mask[..., :, None] & columns.mask[..., None, :],
        row_rank=rows.rank[..., :, None],
        column_rank=columns.rank[..., None, :],
        sentences=sentences,
    )


def link(rule: Rule, options: RuleOptions, pairs: Pairs) -> Bool[Array, "*batch rows length"]:
    """Return the rule's edges between real tokens, whatever it says of padding."""
    return rule(pairs, options) & pairs.real


def _own_loops(pairs: Pairs, options: RuleOptions) -> Array:
    return threshold(pairs, options) & pairs.diagonal


_OWN_LOOPS = Rule(_own_loops, threshold.reads)
"""The loops of the threshold rule's graph."""


def count_edges(
    tokens: Tokens,
    sentences: Sentences,
    rule: Rule,
    options: RuleOptions,
) -> Int32[Array, " batch"]:
    """Count the edges of each sentence, block of rows by block of rows: never a whole [length,
    length] array of a long text.
    """
    batch, length = tokens.mask.shape
    rows = _rows_at_once(batch, length)
    padded = tokens.pad_rows(-length % rows)

    def step(total: Array, index: Array) -> tuple[Array, None]:
        first_row = index * rows
        block = slice_rows(padded, first_row, rows)
        linked = link(rule, options, pairs_of(block, padded, sentences, first_row))
        return total + jnp.sum(linked, axis=(1, 2), dtype=jnp.int32), None

    blocks = jnp.arange(padded.mask.shape[1] // rows)
    total, _ = jax.lax.scan(step, jnp.zeros(batch, jnp.int32), blocks)
    return total


def _rows_at_once(batch: Any, length: Any) -> Any:
    """Return how many receiving tokens are looked at together: about BLOCK_PAIRS pairs."""
    try:
        return min(length, max(1, BLOCK_PAIRS // max(1, batch * length)))
    except jax.errors.InconclusiveDimensionOperation:
        # A symbolic shape (jax.export) has no number of blocks: all rows at once.
        return length


def slice_rows(tokens: Tokens, first_row: Array | int, rows: Any) -> Tokens:
    """Cut `rows` tokens out of every sentence, from `first_row` on."""
    return Tokens(
        *(
            jax.lax.dynamic_slice_in_dim(
                field,
                first_row,
                rows,
                axis=1,
            )
            for field in tokens
        )
    )


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

"""Rows of pairs of tokens in blocks, and their edges as bits."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from glot_jax.graphs.axes import match_rank
from glot_jax.graphs.similarity import pad_axis
from glot_jax.graphs.token_graph import Loops

_BITS = 32


class RowBlocks(NamedTuple):
    """How a batch is cut into blocks of receiving tokens.

    - `count`: number of blocks
    - `rows`: receiving tokens of each block, of every sentence at once
    - `length`: tokens of a sentence; the last block may hold more than are left
    """

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    rows: int
    length: int

    @property
    def indices(self) -> Array:
        """[blocks] int32, the number of each block."""
        return jnp.arange(self.count)

    def split(self, values: Array) -> Array:
        """[batch, length, ..] -> [blocks, batch, rows, ..], zeros behind the end."""
        missing = self.count * self.rows - self.length
        padded = pad_axis(values, missing, axis=1)
        batch, _, *rest = values.shape
        blocks = padded.reshape(batch, self.count, self.rows, *rest)
        # Blocks first: `scan` walks over the leading axis.
        return jnp.moveaxis(blocks, 1, 0)

    def join(self, blocks: Array) -> Array:
        """[blocks, batch, rows, ..] -> [batch, length, ..]."""
        # Blocks of one sentence lie one after another before they are joined.
        joined = jnp.moveaxis(blocks, 0, 1)
        rest = blocks.shape[3:]
        rows = joined.reshape(joined.shape[0], -1, *rest)
        return rows[:, : self.length]

    def edges(
        self,
        index: Array,
        bits: Array,
        loops: Loops,
    ) -> Array:
        """[batch, rows, length] bool of block `index`, whose bits are [batch, rows, words]."""
        edges = unpack(bits, self.length)
        if loops == "as_is":
            return edges
        # Rows behind the end get a loop too, or they would divide by nothing.
        row = index * self.rows + jnp.arange(self.rows)
        own = jnp.minimum(row, self.length - 1)
        is_own = own[:, None] == jnp.arange(self.length)[None, :]
        return edges | match_rank(is_own, edges)


def pack(edges: Array) -> Array:
    """[.., length] bool -> [.., words] uint32."""
    length = edges.shape[-1]
    words = -(-length // _BITS)
    edges = pad_axis(edges, words * _BITS - length, axis=-1)
    # Plane by plane: as one sum over planes XLA would evaluate the rule bit by bit, inside of the
    # sum.
    planes = []
    for bit in range(_BITS):
        first = bit * words
        plane = edges[..., first : first + words]
        planes.append(plane.astype(jnp.uint32) << bit)
    return functools.reduce(jnp.bitwise_or, planes)


def unpack(bits: Array, length: int) -> Array:
    """[.., words] uint32 -> [.., length] bool."""
    shifts = jnp.arange(_BITS, dtype=jnp.uint32)
    stacked = bits[..., None, :]
    shifted = stacked >> match_rank(shifts[:, None], stacked)
    planes = shifted & 1
    # Planes lie one behind the other, as `pack` took them.
    columns = planes.reshape(*bits.shape[:-1], -1)
    return columns[..., :length] != 0

"""Blockwise backend for long texts: one bit per pair, blocks of receiving tokens, never a whole
[length, length] of numbers.

The cosine is taken once, block by block, and kept as bits that all layers read. A layer walks over
the blocks again; its backward pass, written out, computes a block's weights once more instead of
keeping them. Memory is O(length·hidden + length² / 8 bytes) a sentence, plus one block. The numbers
are the dense backend's.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from glot_jax.graphs.padded import PaddedGraph, kept_pairs
from glot_jax.graphs.similarity import (
    Options,
    Rule,
    Tokens,
    link,
    pad_rows,
    sentences_of,
    with_tokens,
)
from glot_jax.graphs.token_graph import Loops, dropout_seed, leaky_relu

PAIRS = 1 << 23
"""Pairs of tokens in one block: 32 MiB as float32.

Fewer would read all states more often than they compute with them.
"""
_FEWEST_ROWS = 128
_BITS = 32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockwiseGraph(PaddedGraph):
    """See TokenGraph. `bits [blocks, batch, rows, words]` uint32 hold the edges into token
    `block·rows + row`.

    Bit k of word w is the edge from token `k·words + w`: neighbouring columns lie in neighbouring
    words, so that packing and unpacking run along memory.
    """

    bits: Array
    dropped_edges: Array
    weight: None = None

    @property
    def adjacency(self) -> Array:
        """[batch, length, length] bool, unpacked: for a look at short texts."""
        length = self.node_mask.shape[1]
        edges = jnp.moveaxis(_unpack(self.bits, length), 0, 1)
        return edges.reshape(len(edges), -1, length)[:, :length]

    @property
    def _shape(self) -> _Shape:
        blocks, _, rows, _ = self.bits.shape
        return _Shape(blocks, rows, self.node_mask.shape[1])

    def degree(self, loops: Loops = "as_is") -> Array:
        def step(_: None, terms: tuple[Array, Array]) -> tuple[None, Array]:
            edges = self._shape.edges(*terms, loops)
            return None, jnp.sum(edges, axis=-1, keepdims=True, dtype=jnp.float32)

        return self._shape.join(jax.lax.scan(step, None, (self._shape.indices, self.bits))[1])

    def sum(self, values: Array, loops: Loops = "as_is") -> Array:
        return _sum(self._shape, loops, self.bits, values)

    def mean(self, values: Array, loops: Loops = "as_is") -> Array:
        degree = self.degree(loops)
        return self.sum(values, loops) / jnp.where(degree > 0, degree, 1).astype(values.dtype)

    def attend(
        self,
        source: Array,
        target: Array,
        values: Array,
        bias: Array | None = None,
        *,
        dropout: float = 0.0,
        key: Array | None = None,
    ) -> Array:
        source, target = source.astype(jnp.float32), target.astype(jnp.float32)
        if bias is not None:
            target = target + bias
        seed = dropout_seed(key) if dropout else jnp.zeros((), jnp.uint32)
        # One head after another: a block of pairs is the largest array there is.
        heads: list[Any] = [
            _attend(
                self._shape,
                dropout,
                head,
                self.bits,
                self.rank,
                seed,
                source[..., head],
                target[..., head],
                values[..., head, :],
            )
            for head in range(values.shape[-2])
        ]
        return jnp.stack(heads, axis=-2)


class _Shape(NamedTuple):
    """How a batch is cut into blocks of receiving tokens."""

    blocks: int
    rows: int
    length: int

    @property
    def indices(self) -> Array:
        return jnp.arange(self.blocks)

    def split(self, values: Array) -> Array:
        """[batch, length, ..] -> [blocks, batch, rows, ..], zeros behind the end."""
        short = self.blocks * self.rows - self.length
        padded = jnp.pad(values, [(0, 0), (0, short)] + [(0, 0)] * (values.ndim - 2))
        return jnp.moveaxis(
            padded.reshape(len(values), self.blocks, self.rows, *values.shape[2:]), 1, 0
        )

    def join(self, blocks: Array) -> Array:
        """[blocks, batch, rows, ..] -> [batch, length, ..]."""
        joined = jnp.moveaxis(blocks, 0, 1)
        return joined.reshape(len(joined), -1, *blocks.shape[3:])[:, : self.length]

    def edges(self, index: Array, bits: Array, loops: Loops) -> Array:
        """[batch, rows, length] bool of block `index`."""
        edges = _unpack(bits, self.length)
        if loops == "as_is":
            return edges
        # Rows behind the end are given a loop too, or they would divide by nothing.
        own = jnp.minimum(index * self.rows + jnp.arange(self.rows), self.length - 1)
        return edges | (own[:, None] == jnp.arange(self.length))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sum(shape: _Shape, loops: Loops, bits: Array, values: Array) -> Array:
    """Sum of the neighbours' values [batch, length, width]."""

    def step(_: None, terms: tuple[Array, Array]) -> tuple[None, Array]:
        edges = shape.edges(*terms, loops).astype(values.dtype)
        return None, jnp.einsum("bij,bjc->bic", edges, values, preferred_element_type=jnp.float32)

    return shape.join(jax.lax.scan(step, None, (shape.indices, bits))[1]).astype(values.dtype)


def _sum_forward(shape: _Shape, loops: Loops, bits: Array, values: Array) -> tuple[Array, Array]:
    return _sum(shape, loops, bits, values), bits


def _sum_backward(shape: _Shape, loops: Loops, bits: Array, slope: Array) -> tuple[Any, ...]:
    def step(total: Array, terms: tuple[Array, Array, Array]) -> tuple[Array, None]:
        index, bits, slope = terms
        edges = shape.edges(index, bits, loops).astype(slope.dtype)
        return (
            total + jnp.einsum("bic,bij->bcj", slope, edges, preferred_element_type=jnp.float32),
            None,
        )

    total, _ = jax.lax.scan(
        step, jnp.zeros(slope.shape, jnp.float32).mT, (shape.indices, bits, shape.split(slope))
    )
    return None, total.mT.astype(slope.dtype)


_sum.defvjp(_sum_forward, _sum_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _attend(
    shape: _Shape,
    dropout: float,
    head: int,
    bits: Array,
    rank: Array,
    seed: ArrayLike,
    source: Array,
    target: Array,
    values: Array,
) -> Array:
    """One head of attention: source, target [batch, length] float32, values [batch, length,
    width].
    """
    return _attend_forward(shape, dropout, head, bits, rank, seed, source, target, values)[0]


def _attend_forward(
    shape: _Shape,
    dropout: float,
    head: int,
    bits: Array,
    rank: Array,
    seed: ArrayLike,
    source: Array,
    target: Array,
    values: Array,
) -> tuple[Array, tuple[Any, ...]]:
    def step(_: None, terms: tuple[Array, ...]) -> tuple[None, tuple[Array, Array]]:
        index, bits, target, rank_of_row = terms
        edges = shape.edges(index, bits, "exactly_one")
        logits = jnp.where(edges, leaky_relu(target[..., None] + source[:, None]), -jnp.inf)
        # A row always holds its own loop, so its maximum is finite.
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights * kept_pairs(dropout, head, seed, rank, rank_of_row)
        mixed = jnp.einsum(
            "bij,bjc->bic", weights.astype(values.dtype), values, preferred_element_type=jnp.float32
        )
        return None, (mixed / total, (largest + jnp.log(total))[..., 0])

    _, (mixed, scale) = jax.lax.scan(
        step, None, (shape.indices, bits, shape.split(target), shape.split(rank))
    )
    mixed = shape.join(mixed)
    return mixed.astype(values.dtype), (bits, rank, seed, source, target, values, mixed, scale)


def _attend_backward(
    shape: _Shape, dropout: float, head: int, saved: tuple[Any, ...], slope: Array
) -> tuple[Any, ...]:
    """The weights of a block are computed again, from the logarithm of their sum; with p = softmax
    and o the result, d logit_ij = p_ij (slope_i . v_j - slope_i . o_i)."""
    bits, rank, seed, source, target, values, mixed, scale = saved

    def step(
        towards: tuple[Array, Array], terms: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        index, bits, target, rank_of_row, scale, slope, along = terms
        logits = target[..., None] + source[:, None]
        edges = shape.edges(index, bits, "exactly_one")
        weights = jnp.where(edges, jnp.exp(leaky_relu(logits) - scale[..., None]), 0)
        kept = kept_pairs(dropout, head, seed, rank, rank_of_row)
        products = (
            jnp.einsum("bic,bjc->bij", slope, values, preferred_element_type=jnp.float32) * kept
        )
        steepness = weights * (products - along[..., None]) * jnp.where(logits >= 0, 1.0, 0.2)
        # Width before length: multiplied the other way round, a block of few rows would have to be
        # transposed.
        of_values = jnp.einsum(
            "bic,bij->bcj",
            slope,
            (weights * kept).astype(values.dtype),
            preferred_element_type=jnp.float32,
        )
        # As a product too: with XLA's sum over the rows a step at 32,768 tokens took 1.2 times as
        # long on two CPU cores.
        of_source = jnp.einsum("i,bij->bj", jnp.ones(shape.rows), steepness)
        return (towards[0] + of_source, towards[1] + of_values), jnp.sum(steepness, axis=2)

    along = jnp.sum(slope.astype(jnp.float32) * mixed, axis=-1)
    zeros = jnp.zeros(source.shape, jnp.float32), jnp.zeros(values.shape, jnp.float32).mT
    blocks = (
        shape.indices,
        bits,
        shape.split(target),
        shape.split(rank),
        scale,
        shape.split(slope),
        shape.split(along),
    )
    (of_source, of_values), of_target = jax.lax.scan(step, zeros, blocks)
    return None, None, None, of_source, shape.join(of_target), of_values.mT.astype(values.dtype)


_attend.defvjp(_attend_forward, _attend_backward)


def block_rows(batch: int, length: int) -> int:
    """Receiving tokens of a block, a power of two:

    PAIRS pairs, yet rows enough to be worth reading all states for.
    """
    rows = max(_FEWEST_ROWS, PAIRS // max(1, batch * length))
    return min(1 << (rows.bit_length() - 1), 1 << max(0, length - 1).bit_length())


def _pack(edges: Array) -> Array:
    """[.., length] bool -> [.., words] uint32."""
    length = edges.shape[-1]
    words = -(-length // _BITS)
    edges = jnp.pad(edges, [(0, 0)] * (edges.ndim - 1) + [(0, words * _BITS - length)])
    # Plane by plane: as one sum over planes XLA would evaluate the rule bit by bit, inside of the
    # sum.
    planes = (
        edges[..., bit * words : (bit + 1) * words].astype(jnp.uint32) << bit
        for bit in range(_BITS)
    )
    return functools.reduce(jnp.bitwise_or, planes)


def _unpack(bits: Array, length: int) -> Array:
    """[.., words] uint32 -> [.., length] bool."""
    planes = (bits[..., None, :] >> jnp.arange(_BITS, dtype=jnp.uint32)[:, None]) & 1
    return planes.reshape(*bits.shape[:-1], -1)[..., :length] != 0


def blockwise_graph(
    hidden: Array,
    mask: Array,
    nodes: Array,
    *,
    rule: Rule,
    options: Options,
    edge_budget: int | None = None,
    temperature: None = None,
    stored: Array | None = None,
) -> BlockwiseGraph:
    """Link the raw states `hidden [batch, length, dim]` by `rule`; `stored` are the states that
    tell texts apart, where they are not those that are linked. No budget is needed: there is a bit
    for every pair."""
    batch, length = mask.shape
    rows = block_rows(batch, length)

    def bits_of(tokens: Tokens) -> Array:
        known = sentences_of(hidden if stored is None else stored, tokens, rule, options)
        padded = pad_rows(tokens, -length % rows)

        def step(_: None, first: Array) -> tuple[None, Array]:
            block = Tokens(
                *(jax.lax.dynamic_slice_in_dim(of, first, rows, axis=1) for of in padded)
            )
            return None, _pack(link(block, tokens, known, first, rule, options))

        return jax.lax.scan(step, None, jnp.arange(0, padded.mask.shape[1], rows))[1]

    with jax.named_scope("token_graph"):
        bits = with_tokens(bits_of, hidden, mask, rule)
    return BlockwiseGraph(nodes, mask, bits, jnp.zeros((), jnp.int32))

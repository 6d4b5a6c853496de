"""Blockwise backend for long texts: one bit per pair, and blocks of receiving tokens.

There is never a whole [length, length] of numbers. The cosine is taken once, block by block, and
kept as bits that all layers read. A layer walks over the blocks again; its backward pass, written
out, computes a block's weights once more instead of keeping them. Memory is O(length·hidden +
length² / 8 bytes) a sentence, plus one block. The numbers are the dense backend's.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from glot_jax.errors import UsageError
from glot_jax.graphs.attention import dropout_seed, keep_pairs, leaky_relu, leaky_relu_slope
from glot_jax.graphs.axes import match_rank
from glot_jax.graphs.flat import EdgeWriter
from glot_jax.graphs.linking import Linking, refuse_soft_edges, slice_rows
from glot_jax.graphs.padded import PaddedGraph
from glot_jax.graphs.row_blocks import RowBlocks, pack, unpack
from glot_jax.graphs.similarity import Tokens, pad_axis, with_tokens
from glot_jax.graphs.token_graph import Loops

PAIRS = 1 << 23
"""Pairs of tokens in one block: 32 MiB as float32.

Fewer would read all states more often than they compute with them.
"""
_FEWEST_ROWS = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockwiseGraph(PaddedGraph):
    """See TokenGraph.

    `bits [blocks, batch, rows, words]` uint32 hold the edges into token `block·rows + row`. Bit k
    of word w is the edge from token `k·words + w`: neighbouring columns lie in neighbouring words,
    so that packing and unpacking run along memory.
    """

    bits: Array
    dropped_edges: Array
    weight: None = None

    @property
    def adjacency(self) -> Array:
        """[batch, length, length] bool, unpacked: for a look at short texts."""
        length = self.node_mask.shape[1]
        # Rows are cut off at the end: the last block may hold more than the text has.
        blocks = unpack(self.bits, length)
        edges = jnp.moveaxis(blocks, 0, 1)
        rows = edges.reshape(edges.shape[0], -1, length)
        return rows[:, :length]

    @property
    def _blocks(self) -> RowBlocks:
        blocks, _, rows, _ = self.bits.shape
        return RowBlocks(blocks, rows, self.node_mask.shape[1])

    def edge_counts(self) -> Array:
        """See PaddedGraph.edge_counts."""
        # Bits behind the end of a row are never set, so all that are set are edges.
        edges = jax.lax.population_count(self.bits)
        return jnp.sum(edges, axis=(0, 2, 3), dtype=jnp.int32)

    def write_edges(self, writer: EdgeWriter, position: Array) -> EdgeWriter:
        """See PaddedGraph.write_edges."""
        blocks, batch, rows, words = self.bits.shape
        length = self.node_mask.shape[1]
        receivers = pad_axis(position, blocks * rows - length, axis=1)

        # Sentence by sentence, although the bits lie block by block: lists are sorted by receiver.
        def step(writer: EdgeWriter, terms: tuple[Array, Array, Array]) -> tuple[EdgeWriter, None]:
            bits, senders, receivers = terms
            edges = unpack(bits, length)
            return writer.add(edges[None], senders[None], receivers[None]), None

        by_sentence = jnp.moveaxis(self.bits, 0, 1)
        terms = (
            by_sentence.reshape(batch * blocks, rows, words),
            jnp.repeat(position, blocks, axis=0),
            receivers.reshape(batch * blocks, rows),
        )
        writer, _ = jax.lax.scan(step, writer, terms)
        return writer

    def degree(self, loops: Loops = "as_is") -> Array:
        """See TokenGraph.degree."""
        blocks = self._blocks

        def step(_: None, terms: tuple[Array, Array]) -> tuple[None, Array]:
            index, bits = terms
            edges = blocks.edges(index, bits, loops)
            # Summed and not counted as bits: a loop may have been added.
            degree = jnp.sum(
                edges,
                axis=-1,
                keepdims=True,
                dtype=jnp.float32,
            )
            return None, degree

        terms = (blocks.indices, self.bits)
        _, degree = jax.lax.scan(step, None, terms)
        return blocks.join(degree)

    def sum(self, values: Array, loops: Loops = "as_is") -> Array:
        """See TokenGraph.sum."""
        return _sum(self._blocks, loops, self.bits, values)

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
        """See TokenGraph.attend."""
        source = source.astype(jnp.float32)
        target = target.astype(jnp.float32)
        if bias is not None:
            target = target + match_rank(bias, target)
        # A scalar even without dropout: the traced function has one signature.
        seed = dropout_seed(key) if dropout else jnp.zeros((), jnp.uint32)
        pairs = _Pairs(self.bits, self.rank, seed)
        mixed = []
        # One head after another: a block of pairs is the largest array there is.
        for head in range(values.shape[-2]):
            one_head = _Head(self._blocks, dropout, head)
            out = _attend(
                one_head,
                pairs,
                source[..., head],
                target[..., head],
                values[..., head, :],
            )
            mixed.append(out)
        return jnp.stack(mixed, axis=-2)


# Written out, because the way back of a scan would keep the unpacked edges of every block.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sum(
    blocks: RowBlocks,
    loops: Loops,
    bits: Array,
    values: Array,
) -> Array:
    """Add up the neighbours' values [batch, length, width]."""

    def step(_: None, terms: tuple[Array, Array]) -> tuple[None, Array]:
        index, bits = terms
        edges = blocks.edges(index, bits, loops)
        block = jnp.einsum(
            "bij,bjc->bic",
            edges.astype(values.dtype),
            values,
            preferred_element_type=jnp.float32,
        )
        return None, block

    terms = (blocks.indices, bits)
    _, total = jax.lax.scan(step, None, terms)
    joined = blocks.join(total)
    return joined.astype(values.dtype)


def _sum_forward(
    blocks: RowBlocks,
    loops: Loops,
    bits: Array,
    values: Array,
) -> tuple[Array, Array]:
    # A sum is linear in its values, so the way back needs the edges alone.
    return _sum(blocks, loops, bits, values), bits


def _sum_backward(
    blocks: RowBlocks,
    loops: Loops,
    bits: Array,
    grad_out: Array,
) -> tuple[None, Array]:
    """Return the gradient towards the values.

    A block's edges are transposed: what a token sent comes back from those who heard it.
    """

    def step(grad_values: Array, terms: tuple[Array, Array, Array]) -> tuple[Array, None]:
        index, bits, grad_rows = terms
        edges = blocks.edges(index, bits, loops)
        sent_back = jnp.einsum(
            "bic,bij->bcj",
            grad_rows,
            edges.astype(grad_rows.dtype),
            preferred_element_type=jnp.float32,
        )
        return grad_values + sent_back, None

    # Width before length while adding up, for the reason given in _attend_backward.
    zeros = jnp.zeros(grad_out.shape, jnp.float32).mT
    terms = (blocks.indices, bits, blocks.split(grad_out))
    grad_values, _ = jax.lax.scan(step, zeros, terms)
    return None, grad_values.mT.astype(grad_out.dtype)


_sum.defvjp(_sum_forward, _sum_backward)


class _Head(NamedTuple):
    """What is static about one head of attention."""

    blocks: RowBlocks
    dropout: float
    head: int


class _Pairs(NamedTuple):
    """What attention knows of the pairs of tokens."""

    bits: Array
    rank: Array
    """[batch, length] int32."""
    seed: ArrayLike
    """uint32, of this layer's dropout."""


class _Saved(NamedTuple):
    """What the backward pass of one head reads again: numbers per token, and the bits."""

    pairs: _Pairs
    source: Array
    target: Array
    values: Array
    out: Array
    log_total: Array
    """[blocks, batch, rows]: logarithm of the sum of a row's exponentials."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    head: _Head,
    pairs: _Pairs,
    source: Array,
    target: Array,
    values: Array,
) -> Array:
    """Average values [batch, length, width] by one head of attention.

    Source and target [batch, length] are float32.
    """
    out, _ = _attend_forward(
        head,
        pairs,
        source,
        target,
        values,
    )
    return out


def _attend_forward(
    head: _Head,
    pairs: _Pairs,
    source: Array,
    target: Array,
    values: Array,
) -> tuple[Array, _Saved]:
    blocks = head.blocks

    def step(_: None, terms: tuple[Array, ...]) -> tuple[None, tuple[Array, Array]]:
        index, bits, target, row_rank = terms
        edges = blocks.edges(index, bits, "exactly_one")
        sums = target[..., None] + source[:, None]
        logits = leaky_relu(sums)
        logits = jnp.where(edges, logits, -jnp.inf)
        # A row always holds its own loop, so its maximum is finite.
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights * keep_pairs(
            head.dropout,
            head.head,
            pairs.seed,
            pairs.rank,
            row_rank,
        )
        mixed = jnp.einsum(
            "bij,bjc->bic",
            weights.astype(values.dtype),
            values,
            preferred_element_type=jnp.float32,
        )
        log_total = largest + jnp.log(total)
        # One number per row is saved: weights and maxima are computed again from it.
        return None, (mixed / total, log_total[..., 0])

    terms = (
        blocks.indices,
        pairs.bits,
        blocks.split(target),
        blocks.split(pairs.rank),
    )
    _, (mixed, log_total) = jax.lax.scan(step, None, terms)
    out = blocks.join(mixed)
    saved = _Saved(
        pairs,
        source,
        target,
        values,
        out,
        log_total,
    )
    return out.astype(values.dtype), saved


def _attend_backward(
    head: _Head,
    saved: _Saved,
    grad_out: Array,
) -> tuple[None, Array, Array, Array]:
    """Return the gradients towards source, target and values.

    The weights of a block are computed again, from the logarithm of their sum. With p = softmax and
    o the result, `grad_logits_ij = p_ij (grad_out_i . v_j - dot_out_i)`, `dot_out_i = grad_out_i .
    o_i`.
    """
    pairs, source, target, values, out, log_total = saved
    blocks = head.blocks

    def step(
        grads: tuple[Array, Array], terms: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        index, bits, target, row_rank, log_total, grad_rows, dot_out = terms
        sums = target[..., None] + source[:, None]
        edges = blocks.edges(index, bits, "exactly_one")
        logits = leaky_relu(sums)
        weights = jnp.exp(logits - log_total[..., None])
        weights = jnp.where(edges, weights, 0)
        kept = keep_pairs(
            head.dropout,
            head.head,
            pairs.seed,
            pairs.rank,
            row_rank,
        )
        grad_kept = jnp.einsum(
            "bic,bjc->bij",
            grad_rows,
            values,
            preferred_element_type=jnp.float32,
        )
        grad_logits = weights * (grad_kept * kept - dot_out[..., None])
        grad_sums = grad_logits * leaky_relu_slope(sums)
        # Width before length: multiplied the other way round, a block of few rows would have to be
        # transposed.
        heard = (weights * kept).astype(values.dtype)
        grad_values = jnp.einsum(
            "bic,bij->bcj",
            grad_rows,
            heard,
            preferred_element_type=jnp.float32,
        )
        # As a product too: with XLA's sum over the rows a step at 32,768 tokens took 1.2 times as
        # long on two CPU cores.
        ones = jnp.ones(blocks.rows)
        grad_source = jnp.einsum("i,bij->bj", ones, grad_sums)
        total = (grads[0] + grad_source, grads[1] + grad_values)
        grad_target = jnp.sum(grad_sums, axis=2)
        return total, grad_target

    products = grad_out.astype(jnp.float32) * out
    dot_out = jnp.sum(products, axis=-1)
    # Senders hear back from every block, so their gradients add up; a receiver is in one alone.
    zeros_source = jnp.zeros(source.shape, jnp.float32)
    zeros_values = jnp.zeros(values.shape, jnp.float32).mT
    zeros = (zeros_source, zeros_values)
    terms = (
        blocks.indices,
        pairs.bits,
        blocks.split(target),
        blocks.split(pairs.rank),
        log_total,
        blocks.split(grad_out),
        blocks.split(dot_out),
    )
    (grad_source, grad_values), grad_target = jax.lax.scan(step, zeros, terms)
    grad_target = blocks.join(grad_target)
    grad_values = grad_values.mT.astype(values.dtype)
    # Nothing of `pairs` is trained.
    return None, grad_source, grad_target, grad_values


_attend.defvjp(_attend_forward, _attend_backward)


def block_rows(batch: int, length: int) -> int:
    """Return the receiving tokens of a block, a power of two.

    They make PAIRS pairs, yet are enough to be worth reading all states for.
    """
    pairs = max(1, batch * length)
    rows = max(_FEWEST_ROWS, PAIRS // pairs)
    power = 1 << (rows.bit_length() - 1)
    # No more than the text has, rounded up.
    longest = 1 << max(0, length - 1).bit_length()
    return min(power, longest)


def blockwise_graph(
    linking: Linking,
    nodes: Array,
    *,
    edge_budget: int | None = None,
    temperature: Array | None = None,
) -> BlockwiseGraph:
    """Link a batch by its rule, one bit a pair.

    Args:
        linking: states, rule and its numbers.
        nodes: features [batch, length, width] that layers will see.
        edge_budget: not read; there is a bit for every pair.
        temperature: of soft edges, which this backend cannot hold.

    Raises:
        UsageError: soft edges, or a shape that is not known.
    """
    del edge_budget
    refuse_soft_edges("blockwise", temperature)
    # The number of blocks is the length of an axis, which Python computes.
    if not all(isinstance(size, int) for size in linking.mask.shape):
        raise UsageError(
            rule="the blockwise backend must know batch and length as numbers",
            got=f"the symbolic shape {linking.mask.shape}",
            fix="Export with backend='dense' or 'sparse', or with fixed shapes.",
        )
    batch, length = linking.mask.shape
    rows = block_rows(batch, length)

    # A whole block of cosines lives only until it is packed.
    def bits_of(tokens: Tokens) -> Array:
        sentences = linking.sentences(tokens)
        padded = tokens.pad_rows(-length % rows)

        def step(_: None, first_row: Array) -> tuple[None, Array]:
            block = slice_rows(padded, first_row, rows)
            edges = linking.link(block, tokens, sentences, first_row)
            return None, pack(edges)

        first_rows = jnp.arange(0, padded.mask.shape[1], rows)
        _, bits = jax.lax.scan(step, None, first_rows)
        return bits

    with jax.named_scope("token_graph"):
        bits = with_tokens(
            bits_of,
            linking.hidden,
            linking.mask,
            compares_states=linking.rule.compares_states,
        )
    return BlockwiseGraph(
        nodes,
        linking.mask,
        bits,
        jnp.zeros((), jnp.int32),
    )

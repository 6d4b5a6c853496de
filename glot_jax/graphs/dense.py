"""Dense backend: a boolean [batch, length, length] mask, matmuls and masked softmax.

No scatter, forward or backward.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from glot_jax.graphs.attention import dropout_seed, keep_pairs, leaky_relu, leaky_relu_slope
from glot_jax.graphs.axes import match_rank
from glot_jax.graphs.flat import EdgeWriter
from glot_jax.graphs.linking import Linking, pairs_of
from glot_jax.graphs.padded import PaddedGraph
from glot_jax.graphs.similarity import Tokens, tokens_of, with_tokens
from glot_jax.graphs.token_graph import Loops


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseGraph(PaddedGraph):
    """See TokenGraph.

    `adjacency [batch, length, length]` bool: [b, i, j] is the edge j -> i of sentence b.
    `weight`, where edges are soft, has its shape. What it holds beside the edges is 1, and read by
    nothing but loops.
    """

    adjacency: Array
    dropped_edges: Array
    weight: Array | None = None

    def _edges(self, loops: Loops) -> Array:
        if loops == "as_is":
            return self.adjacency
        # A union, so that a token which the rule linked to itself does not count twice.
        length = self.adjacency.shape[-1]
        own = jnp.eye(length, dtype=bool)
        return self.adjacency | match_rank(own, self.adjacency)

    def _weights(self, loops: Loops) -> Array:
        edges = self._edges(loops)
        if self.weight is None:
            return edges
        return jnp.where(edges, self.weight, 0)

    def edge_counts(self) -> Array:
        """See PaddedGraph.edge_counts."""
        return jnp.sum(self.adjacency, axis=(1, 2), dtype=jnp.int32)

    def write_edges(self, writer: EdgeWriter, position: Array) -> EdgeWriter:
        """See PaddedGraph.write_edges."""
        return writer.add(self.adjacency, position, position)

    def degree(self, loops: Loops = "as_is") -> Array:
        """See TokenGraph.degree."""
        return jnp.sum(
            self._weights(loops),
            axis=-1,
            keepdims=True,
            dtype=jnp.float32,
        )

    def sum(self, values: Array, loops: Loops = "as_is") -> Array:
        """See TokenGraph.sum."""
        # Edges are 0 and 1, exact in every dtype: a sum over neighbours is one batched product.
        edges = self._weights(loops).astype(values.dtype)
        return jnp.einsum(
            "bij,bjc->bic",
            edges,
            values,
            preferred_element_type=values.dtype,
        )

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
        # Logits are float32 whatever the values are: bfloat16 would tie neighbours of like score.
        source = source.astype(jnp.float32)
        target = target.astype(jnp.float32)
        if bias is not None:
            target = target + match_rank(bias, target)
        # A scalar even without dropout: the traced function has one signature.
        seed = dropout_seed(key) if dropout else jnp.zeros((), jnp.uint32)
        edges = self._edges("exactly_one")

        def one_head(
            head: Array,
            source: Array,
            target: Array,
            values: Array,
        ) -> Array:
            pairs = _Pairs(edges, self.rank, seed, head)
            return _attend(
                dropout,
                pairs,
                self.weight,
                source,
                target,
                values,
            )

        heads = values.shape[-2]
        if heads == 1:
            # Without an axis of one head nothing needs to be transposed.
            first = jnp.zeros((), jnp.int32)
            mixed = one_head(
                first,
                source[..., 0],
                target[..., 0],
                values[..., 0, :],
            )
            return mixed[..., None, :]
        # Heads keep their axis, the last of scores and the last but one of values.
        over_heads = jax.vmap(one_head, (0, -1, -1, -2), -2)
        return over_heads(jnp.arange(heads), source, target, values)


class _Pairs(NamedTuple):
    """What one head of attention knows of the pairs of tokens."""

    edges: Array
    """[batch, length, length] bool, every token linked to itself."""
    rank: Array
    """[batch, length] int32."""
    seed: ArrayLike
    """uint32, of this layer's dropout."""
    head: ArrayLike
    """Number of the head."""

    def kept(self, dropout: float) -> Array | float:
        return keep_pairs(
            dropout,
            self.head,
            self.seed,
            self.rank,
            self.rank,
        )

    def logits(self, sums: Array, weight: Array | None) -> Array:
        """Return the logits [batch, length, length]; what is not linked has -inf."""
        logits = leaky_relu(sums)
        if weight is not None:
            # The logarithm of a weight adds to a logit what the weight multiplies in the softmax.
            logits = logits + jnp.log(weight)
        return jnp.where(self.edges, logits, -jnp.inf)


class _Saved(NamedTuple):
    """What the backward pass of one head reads again: numbers per token, and the pairs."""

    pairs: _Pairs
    weight: Array | None
    source: Array
    target: Array
    values: Array
    out: Array
    log_total: Array


# The backward pass is written out: JAX's own would keep several float32 arrays [batch, length,
# length] of every layer until it runs.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    dropout: float,
    pairs: _Pairs,
    weight: Array | None,
    source: Array,
    target: Array,
    values: Array,
) -> Array:
    """Average values by one head of attention.

    Args:
        dropout: share of the attention weights that become 0.
        pairs: edges, and what decides which weights are dropped.
        weight: [batch, length, length] of soft edges.
        source: [batch, length] float32, scores of the senders.
        target: [batch, length] float32, scores of the receivers.
        values: [batch, length, width].
    """
    out, _ = _attend_forward(
        dropout,
        pairs,
        weight,
        source,
        target,
        values,
    )
    return out


def _sums(source: Array, target: Array) -> Array:
    """Return what the leaky relu is taken of, [batch, length, length]."""
    return target[:, :, None] + source[:, None, :]


def _attend_forward(
    dropout: float,
    pairs: _Pairs,
    weight: Array | None,
    source: Array,
    target: Array,
    values: Array,
) -> tuple[Array, _Saved]:
    sums = _sums(source, target)
    logits = pairs.logits(sums, weight)
    # A row always holds its own loop, so its maximum is finite.
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    # Dropped behind the sum, which is that of all weights.
    kept = weights * pairs.kept(dropout)
    mixed = jnp.einsum(
        "bij,bjc->bic",
        kept.astype(values.dtype),
        values,
        preferred_element_type=jnp.float32,
    )
    # Dividing after the product touches [length, width] numbers instead of [length, length].
    out = mixed / total
    # Not the sum itself: with it the largest logit would have to be saved as well.
    log_total = largest + jnp.log(total)
    saved = _Saved(
        pairs,
        weight,
        source,
        target,
        values,
        out,
        log_total,
    )
    return out.astype(values.dtype), saved


def _attend_backward(
    dropout: float,
    saved: _Saved,
    grad_out: Array,
) -> tuple[None, Array | None, Array, Array, Array]:
    """Return the gradients towards weight, source, target and values.

    With p = softmax and o the result, `grad_logits_ij = p_ij (grad_out_i . v_j - dot_out_i)`,
    `dot_out_i = grad_out_i . o_i`.

    p is computed again from the logarithm of its sum, so that no number per pair outlives its
    layer.
    """
    pairs, weight, source, target, values, out, log_total = saved
    sums = _sums(source, target)
    logits = pairs.logits(sums, weight)
    weights = jnp.exp(logits - log_total)
    kept = pairs.kept(dropout)
    grad_kept = jnp.einsum(
        "bic,bjc->bij",
        grad_out,
        values,
        preferred_element_type=jnp.float32,
    )
    # A sum over the width, written as a product with ones.
    width = out.shape[-1]
    ones = jnp.ones((width, 1), jnp.float32)
    products = grad_out.astype(jnp.float32) * out
    dot_out = jnp.matmul(products, ones)
    # The factor of dropout stands in `out` too, so dot_out needs none of its own.
    grad_logits = weights * (grad_kept * kept - dot_out)
    # The logit holds log(weight), whose derivative is 1 / weight.
    grad_weight = None if weight is None else grad_logits / weight
    grad_sums = grad_logits * leaky_relu_slope(sums)
    # What a token sent comes back from those who heard it: the product of the forward pass,
    # transposed.
    heard = (weights * kept).astype(values.dtype)
    grad_values = jnp.einsum(
        "bij,bic->bjc",
        heard,
        grad_out,
        preferred_element_type=jnp.float32,
    )
    # A sum is source_j + target_i, so each end collects what the other axis holds.
    grad_source = jnp.sum(grad_sums, axis=1)
    grad_target = jnp.sum(grad_sums, axis=2)
    # Nothing of `pairs` is trained.
    return None, grad_weight, grad_source, grad_target, grad_values.astype(values.dtype)


_attend.defvjp(_attend_forward, _attend_backward)


def dense_graph(
    linking: Linking,
    nodes: Array,
    *,
    edge_budget: int | None = None,
    temperature: Array | None = None,
) -> DenseGraph:
    """Link a batch by its rule, or softly.

    With a `temperature` T every pair of real, non-zero tokens is linked, softly: weight sigmoid((S
    - tau) / T), 1 for a token's own loop. The gradient reaches tau alone.

    Args:
        linking: states, rule and its numbers.
        nodes: features [batch, length, width] that layers will see.
        edge_budget: not read; there is room for every pair.
        temperature: T of soft edges, in training with a learned tau.
    """
    # Every backend is called with a budget; here there is room for every pair.
    del edge_budget
    with jax.named_scope("token_graph"):
        dropped = jnp.zeros((), jnp.int32)
        if temperature is not None:
            adjacency, weight = _soft_edges(linking, temperature)
            return DenseGraph(
                nodes,
                linking.mask,
                adjacency,
                dropped,
                weight,
            )

        def adjacency_of(tokens: Tokens) -> Array:
            sentences = linking.sentences(tokens)
            edges = linking.link(tokens, tokens, sentences)
            return linking.controlled(edges, tokens)

        adjacency = with_tokens(
            adjacency_of,
            linking.hidden,
            linking.mask,
            compares_states=linking.rule.compares_states,
        )
        return DenseGraph(nodes, linking.mask, adjacency, dropped)


def _soft_edges(linking: Linking, temperature: Array) -> tuple[Array, Array]:
    """Return adjacency and weights, both [batch, length, length]."""
    # No shortcut for ordinary norms here: soft edges are a way of training, and rare.
    tokens = tokens_of(linking.hidden, linking.mask)
    pairs = pairs_of(tokens, tokens, linking.sentences(tokens), 0)
    adjacency = pairs.real & pairs.nonzero
    # Held within 60, so that no weight vanishes and no logarithm of one is infinite.
    above = pairs.similarity - linking.options.tau
    logits = jnp.clip(above / temperature, -60, 60)
    # A token's own loop is an edge whatever tau is, so tau learns nothing from it.
    between = adjacency & ~pairs.diagonal
    soft = jax.nn.sigmoid(logits)
    weight = jnp.where(between, soft, 1)
    return adjacency, weight

"""Dense backend: a boolean [batch, length, length] mask, matmuls and masked softmax.

No scatter, forward or backward.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

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
    pairs_of,
    sentences_of,
    tokens_of,
    with_tokens,
)
from glot_jax.graphs.token_graph import Loops, dropout_seed, leaky_relu


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseGraph(PaddedGraph):
    """See TokenGraph. `adjacency [batch, length, length]` bool: [b, i, j] is the edge j -> i of
    sentence b.

    `weight`, where edges are soft, has its shape; what it holds beside the edges is 1 and read by
    nothing but loops.
    """

    adjacency: Array
    dropped_edges: Array
    weight: Array | None = None

    def _edges(self, loops: Loops) -> Array:
        if loops == "as_is":
            return self.adjacency
        return self.adjacency | jnp.eye(self.adjacency.shape[-1], dtype=bool)

    def _weights(self, loops: Loops) -> Array:
        edges = self._edges(loops)
        return edges if self.weight is None else jnp.where(edges, self.weight, 0)

    def degree(self, loops: Loops = "as_is") -> Array:
        return jnp.sum(self._weights(loops), axis=-1, keepdims=True, dtype=jnp.float32)

    def sum(self, values: Array, loops: Loops = "as_is") -> Array:
        edges = self._weights(loops).astype(values.dtype)
        return jnp.einsum("bij,bjc->bic", edges, values, preferred_element_type=values.dtype)

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
        one_head = functools.partial(
            _attend, dropout, self._edges("exactly_one"), self.weight, self.rank, seed
        )
        if values.shape[-2] == 1:
            # Without an axis of one head nothing needs to be transposed.
            return one_head(
                jnp.zeros((), jnp.int32), source[..., 0], target[..., 0], values[..., 0, :]
            )[..., None, :]
        return jax.vmap(one_head, (0, -1, -1, -2), -2)(
            jnp.arange(values.shape[-2]), source, target, values
        )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    dropout: float,
    edges: Array,
    weight: Array | None,
    rank: Array,
    seed: ArrayLike,
    head: ArrayLike,
    source: Array,
    target: Array,
    values: Array,
) -> Array:
    """One head of attention: source, target [batch, length] float32, values [batch, length,
    width].
    """
    return _attend_forward(dropout, edges, weight, rank, seed, head, source, target, values)[0]


def _logits(
    edges: Array, weight: Array | None, source: Array, target: Array
) -> tuple[Array, Array]:
    """Before and after the leaky relu, [batch, length, length]; what is not linked has -inf."""
    sums = target[:, :, None] + source[:, None, :]
    logits = leaky_relu(sums) if weight is None else leaky_relu(sums) + jnp.log(weight)
    return sums, jnp.where(edges, logits, -jnp.inf)


def _attend_forward(
    dropout: float,
    edges: Array,
    weight: Array | None,
    rank: Array,
    seed: ArrayLike,
    head: ArrayLike,
    source: Array,
    target: Array,
    values: Array,
) -> tuple[Array, tuple[Any, ...]]:
    _, logits = _logits(edges, weight, source, target)
    # A row always holds its own loop, so its maximum is finite.
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights * kept_pairs(dropout, head, seed, rank, rank)
    # Dividing after the product touches [length, width] numbers instead of [length, length].
    mixed = (
        jnp.einsum(
            "bij,bjc->bic", weights.astype(values.dtype), values, preferred_element_type=jnp.float32
        )
        / total
    )
    return mixed.astype(values.dtype), (
        edges,
        weight,
        rank,
        seed,
        head,
        source,
        target,
        values,
        mixed,
        largest + jnp.log(total),
    )


def _attend_backward(dropout: float, saved: tuple[Any, ...], slope: Array) -> tuple[Any, ...]:
    """With p = softmax and o the result, d logit_ij = p_ij (slope_i . v_j - slope_i . o_i).

    p is computed again from the logarithm of its sum, so that no number per pair outlives its
    layer.
    """
    edges, weight, rank, seed, head, source, target, values, mixed, scale = saved
    sums, logits = _logits(edges, weight, source, target)
    weights, kept = jnp.exp(logits - scale), kept_pairs(dropout, head, seed, rank, rank)
    products = jnp.einsum("bic,bjc->bij", slope, values, preferred_element_type=jnp.float32) * kept
    along = jnp.matmul(
        slope.astype(jnp.float32) * mixed, jnp.ones((mixed.shape[-1], 1), jnp.float32)
    )
    steepness = weights * (products - along)
    of_weight = None if weight is None else steepness / weight
    steepness = steepness * jnp.where(sums >= 0, 1.0, 0.2)
    of_values = jnp.einsum(
        "bij,bic->bjc",
        (weights * kept).astype(values.dtype),
        slope,
        preferred_element_type=jnp.float32,
    )
    return (
        None,
        of_weight,
        None,
        None,
        None,
        jnp.sum(steepness, axis=1),
        jnp.sum(steepness, axis=2),
        of_values.astype(values.dtype),
    )


_attend.defvjp(_attend_forward, _attend_backward)


def dense_graph(
    hidden: Array,
    mask: Array,
    nodes: Array,
    *,
    rule: Rule,
    options: Options,
    edge_budget: int | None = None,
    temperature: Array | None = None,
    stored: Array | None = None,
) -> DenseGraph:
    """Link the raw states `hidden [batch, length, dim]` by `rule`; `nodes` are the features layers
    will see; `stored` are the states that tell texts apart, where they are not those that are
    linked (mixed layers).

    With a `temperature` T every pair of real, non-zero tokens is linked, softly: weight sigmoid((S
    - tau) / T), 1 for a token's own loop. The gradient reaches tau alone. The logit is held within
    60, so that no weight vanishes.
    """
    texts = hidden if stored is None else stored
    with jax.named_scope("token_graph"):
        if temperature is None:

            def adjacency_of(tokens: Tokens) -> Array:
                return link(
                    tokens, tokens, sentences_of(texts, tokens, rule, options), 0, rule, options
                )

            return DenseGraph(
                nodes, mask, with_tokens(adjacency_of, hidden, mask, rule), jnp.zeros((), jnp.int32)
            )
        tokens = tokens_of(hidden, mask)
        sentences = sentences_of(texts, tokens, rule, options)
        pairs = pairs_of(tokens, tokens, sentences, 0)
        adjacency = pairs.real & pairs.nonzero
        soft = jax.nn.sigmoid(jnp.clip((pairs.similarity - options.tau) / temperature, -60, 60))
        weight = jnp.where(adjacency & ~pairs.diagonal, soft, 1)
        return DenseGraph(nodes, mask, adjacency, jnp.zeros((), jnp.int32), weight)

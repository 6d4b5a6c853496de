"""Dense backend: a boolean [batch, length, length] mask, matmuls and masked softmax. No scatter, forward or backward."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from glot_jax.graphs.similarity import Options, Rule, link, pairs_of, sentences_of, tokens_of
from glot_jax.graphs.token_graph import Loops, TokenGraph, keep, leaky_relu


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseGraph(TokenGraph):
    """See TokenGraph. `adjacency [batch, length, length]` bool: [b, i, j] is the edge j -> i of sentence b.

    `weight`, where edges are soft, has its shape; what it holds beside the edges is 1 and read by nothing but loops.
    """

    nodes: Array
    node_mask: Array
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
        self, source: Array, target: Array, values: Array, bias: Array | None = None, *, dropout: float = 0.0, key: Array | None = None
    ) -> Array:
        source, target = (jnp.moveaxis(term.astype(jnp.float32), -1, 1) for term in (source, target))
        if bias is not None:
            target = target + bias[:, None]
        logits = leaky_relu(target[..., :, None] + source[..., None, :])
        if self.weight is not None:
            logits = logits + jnp.log(self.weight)[:, None]
        logits = jnp.where(self._edges("exactly_one")[:, None], logits, -jnp.inf)
        # A row always holds its own loop, so its maximum is finite.
        weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
        total = jnp.moveaxis(jnp.sum(weights, axis=-1), 1, -1)
        if dropout:
            rank = jnp.cumsum(self.node_mask, axis=1) - 1
            batch, heads = jnp.arange(len(rank))[:, None, None, None], jnp.arange(logits.shape[1])[:, None, None]
            weights = weights * keep(dropout, key, batch, rank[:, None, :, None], rank[:, None, None, :], heads)
        # Dividing after the product touches [length, width] numbers instead of [length, length].
        mixed = jnp.einsum("bhij,bjhc->bihc", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return (mixed / total[..., None]).astype(values.dtype)

    def sentence_sum(self, values: Array, weights: Array | None = None) -> Array:
        weights = self.node_mask if weights is None else jnp.where(self.node_mask, weights, 0)
        return jnp.einsum("bl,blc->bc", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)

    def sentence_max(self, values: Array) -> Array:
        largest = jnp.max(jnp.where(self.node_mask[..., None], values, -jnp.inf), axis=1)
        return jnp.where(jnp.any(self.node_mask, axis=1)[:, None], largest, 0)

    def softmax(self, scores: Array) -> Array:
        scores = jnp.where(self.node_mask, scores.astype(jnp.float32), -jnp.inf)
        largest = jax.lax.stop_gradient(jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.exp(scores - jnp.where(jnp.isfinite(largest), largest, 0))
        total = jnp.sum(weights, axis=1, keepdims=True)
        return weights / jnp.where(total > 0, total, 1)

    def dot(self, values: Array, sentence: Array) -> Array:
        return jnp.einsum("blc,bhc->blh", values, sentence.astype(values.dtype), preferred_element_type=jnp.float32)

    def token(self, which: Literal["first", "last"]) -> Array:
        length = self.node_mask.shape[1]
        position = jnp.arange(length)
        if which == "first":
            index = jnp.min(jnp.where(self.node_mask, position, length), axis=1, keepdims=True)
        else:
            index = jnp.max(jnp.where(self.node_mask, position, -1), axis=1, keepdims=True)
        return (position == index).astype(jnp.float32)

    def spread(self, sentence: Array) -> Array:
        return jnp.broadcast_to(sentence[:, None], (*self.node_mask.shape, sentence.shape[-1]))

    def to_padded(self, values: Array) -> Array:
        return jnp.where(self.node_mask[..., None], values, 0)


def dense_graph(
    hidden: Array, mask: Array, nodes: Array, *, rule: Rule, options: Options, edge_budget: int | None = None,
    temperature: Array | None = None, stored: Array | None = None,
) -> DenseGraph:
    """Link the raw states `hidden [batch, length, dim]` by `rule`; `nodes` are the features layers will see;
    `stored` are the states that tell texts apart, where they are not those that are linked (mixed layers).

    With a `temperature` T every pair of real, non-zero tokens is linked, softly: weight sigmoid((S - tau) / T), 1 for a
    token's own loop. The gradient reaches tau alone. The logit is held within 60, so that no weight vanishes.
    """
    tokens = tokens_of(hidden, mask)
    with jax.named_scope("token_graph"):
        sentences = sentences_of(hidden if stored is None else stored, tokens, rule, options)
        if temperature is None:
            return DenseGraph(nodes, mask, link(tokens, tokens, sentences, 0, rule, options), jnp.zeros((), jnp.int32))
        pairs = pairs_of(tokens, tokens, sentences, 0)
        adjacency = pairs.real & pairs.nonzero
        soft = jax.nn.sigmoid(jnp.clip((pairs.similarity - options.tau) / temperature, -60, 60))
        weight = jnp.where(adjacency & ~pairs.diagonal, soft, 1)
        return DenseGraph(nodes, mask, adjacency, jnp.zeros((), jnp.int32), weight)

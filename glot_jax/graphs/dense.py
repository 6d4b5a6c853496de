"""Dense backend: a boolean [batch, length, length] mask, matmuls and masked softmax. No scatter, forward or backward."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from glot_jax.graphs.padded import PaddedGraph
from glot_jax.graphs.similarity import Options, Rule, link, pairs_of, sentences_of, tokens_of
from glot_jax.graphs.token_graph import Loops, dropout_seed, keep, leaky_relu


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DenseGraph(PaddedGraph):
    """See TokenGraph. `adjacency [batch, length, length]` bool: [b, i, j] is the edge j -> i of sentence b.

    `weight`, where edges are soft, has its shape; what it holds beside the edges is 1 and read by nothing but loops.
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
            seed = dropout_seed(key)
            rank = self.rank
            batch, heads = jnp.arange(len(rank))[:, None, None, None], jnp.arange(logits.shape[1])[:, None, None]
            weights = weights * keep(dropout, seed, batch, rank[:, None, :, None], rank[:, None, None, :], heads)
        # Dividing after the product touches [length, width] numbers instead of [length, length].
        mixed = jnp.einsum("bhij,bjhc->bihc", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return (mixed / total[..., None]).astype(values.dtype)


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

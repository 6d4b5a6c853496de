"""All poolers on one screen: TokenGraph -> one float32 vector per sentence.

Every pooler has `pooled_dim`, `uses_edges` (False: the graph's edges are never computed), `from_config`,
`__call__(graph) -> [batch, pooled_dim]` and `token_weights(graph) -> [batch, length]`, how much each token counts.
A sentence without tokens is pooled to zeros.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config import PoolerConfig, lookup
from glot_jax.graphs import TokenGraph
from glot_jax.pooling.gnn import TokenGNN
from glot_jax.pooling.readout import AttentionReadout


class Pooler(nnx.Module):
    """What every pooler is; see the module's docstring."""

    pooled_dim: int
    uses_edges: ClassVar[bool] = False

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Pooler:
        """Build for states of width `dim`; kind: "encoder" or "decoder", which decides what `cls` means."""
        return cls(dim)  # type: ignore[call-arg]

    @abc.abstractmethod
    def weights(self, graph: TokenGraph) -> Float[Array, "*nodes"]: ...

    def __call__(
        self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch pooled"]:
        return graph.sentence_sum(graph.nodes, self.weights(graph))

    def token_weights(self, graph: TokenGraph) -> Float[Array, "batch length"]:
        return graph.to_padded(self.weights(graph)[..., None])[..., 0]


class Mean(Pooler):
    """Mean of the real tokens' states."""

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        return graph.softmax(jnp.zeros_like(graph.node_mask, jnp.float32))


class Max(Pooler):
    """Largest entry per dimension; a token weighs the share of dimensions it wins, ties shared."""

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> Array:
        wins = (graph.nodes == graph.spread(graph.sentence_max(graph.nodes))) & graph.node_mask[..., None]
        ties = graph.spread(graph.sentence_sum(wins.astype(jnp.float32)))
        return jnp.mean(wins / jnp.where(ties > 0, ties, 1), axis=-1)

    def __call__(self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None) -> Array:
        return graph.sentence_max(graph.nodes).astype(jnp.float32)


class Cls(Pooler):
    """The first token of an encoder ([CLS]), the last real token of a decoder."""

    def __init__(self, dim: int, kind: str = "encoder"):
        self.pooled_dim = dim
        self.which = lookup({"encoder": "first", "decoder": "last"}, kind, "kind of backbone")

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Cls:
        return cls(dim, kind)

    def weights(self, graph: TokenGraph) -> Array:
        return graph.token("first" if self.which == "first" else "last")


class AdaPool(Pooler):
    """A two-layer tanh scorer and softmax over the states themselves (the paper's learned baseline)."""

    def __init__(self, dim: int, scorer_dim: int = 128, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.pooled_dim = dim
        self.readout = AttentionReadout([dim], scorer_dim, dtype=dtype, rngs=rngs)

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> AdaPool:
        return cls(dim, config.scorer_dim or 128, dtype=config.dtype, rngs=rngs)

    def weights(self, graph: TokenGraph) -> Array:
        return self.readout.weights(graph, [graph.nodes])


class Glot(Pooler):
    """GLOT: Token-GNN over the token graph, jumping knowledge, attention readout (paper section 3.2, Algorithm 1).

    Args:
        dim: width of the graph's nodes (after the optional projection).
        hidden_dim: width of the GNN's layers.
        num_layers: K; 0 leaves the readout alone, which is AdaPool with another scorer width.
        gnn: layer type, a name of GNN_LAYERS: gat, gcn, gin, gine or sage.
        jk: "cat", "max", "mean" or "none", see TokenGNN.
        heads, edge_term: of GAT.
        scorer_dim: width of the scorer; default max(128, width // 2), width = that of a refined token.
        dtype: arithmetic; parameters and softmaxes stay float32.

    Raises:
        UsageError: for unknown names and impossible combinations.
    """

    uses_edges = True

    def __init__(
        self, dim: int, hidden_dim: int = 128, num_layers: int = 2, *, gnn: str = "gat", jk: str = "cat", heads: int = 1,
        edge_term: bool = False, scorer_dim: int | None = None, dtype: str = "float32", rngs: nnx.Rngs,
    ):
        self.gnn = TokenGNN(
            dim, hidden_dim, num_layers, gnn=gnn, jk=jk, heads=heads, edge_term=edge_term, dtype=dtype, rngs=rngs
        )
        self.pooled_dim = sum(self.gnn.widths)
        self.tau: float | None = None
        """Threshold of the graphs it was trained on, where a loaded checkpoint came with one; read by nothing here."""
        self.readout = AttentionReadout(
            self.gnn.widths, scorer_dim or max(128, self.pooled_dim // 2), dtype=dtype, rngs=rngs
        )

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Glot:
        attention = {"heads": config.heads, "edge_term": config.edge_term} if config.gnn == "gat" else {}
        return cls(
            dim, config.hidden_dim, config.num_layers, gnn=config.gnn, jk=config.jk, **attention, scorer_dim=config.scorer_dim, dtype=config.dtype, rngs=rngs,
        )

    def weights(self, graph: TokenGraph) -> Array:
        return self.readout.weights(graph, self.gnn(graph))

    def __call__(self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None) -> Array:
        return self.readout(graph, self.gnn(graph, train=train, rngs=rngs))


POOLERS: dict[str, type[Pooler]] = {"cls": Cls, "mean": Mean, "max": Max, "adapool": AdaPool, "glot": Glot}

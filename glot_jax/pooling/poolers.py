"""All poolers on one screen: TokenGraph -> one float32 vector per sentence.

Every pooler has `pooled_dim`, `uses_edges` (False: the graph's edges are never computed),
`from_config`, `__call__(graph) -> [batch, pooled_dim]` and `token_weights(graph) -> [batch,
length]`, how much each token counts. A sentence without tokens is pooled to zeros.
"""

from __future__ import annotations

import abc
import bisect
import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.checks import require_divisor
from glot_jax.config.train import PoolerConfig
from glot_jax.errors import lookup
from glot_jax.graphs import TokenGraph
from glot_jax.pooling.gnn import TokenGNN
from glot_jax.pooling.init import glorot
from glot_jax.pooling.readout import AttentionReadout


class Pooler(nnx.Module):
    """What every pooler is; see the module's docstring."""

    pooled_dim: int
    uses_edges: ClassVar[bool] = False

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Pooler:
        """Build for states of width `dim`; kind:

        "encoder" or "decoder", which decides what `cls` means.
        """
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
        wins = (graph.nodes == graph.spread(graph.sentence_max(graph.nodes))) & graph.node_mask[
            ..., None
        ]
        ties = graph.spread(graph.sentence_sum(wins.astype(jnp.float32)))
        return jnp.mean(wins / jnp.where(ties > 0, ties, 1), axis=-1)

    def __call__(
        self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Array:
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


class First(Cls):
    """The first real token, whatever the backbone."""

    def __init__(self, dim: int):
        super().__init__(dim, "encoder")

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> First:
        return cls(dim)


class Last(Cls):
    """The last real token, whatever the backbone."""

    def __init__(self, dim: int):
        super().__init__(dim, "decoder")

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Last:
        return cls(dim)


class AdaPool(Pooler):
    """A two-layer tanh scorer and softmax over the states themselves (the paper's learned
    baseline).
    """

    def __init__(self, dim: int, scorer_dim: int = 128, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.pooled_dim = dim
        self.readout = AttentionReadout([dim], scorer_dim, dtype=dtype, rngs=rngs)

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> AdaPool:
        return cls(dim, config.scorer_dim or 128, dtype=config.dtype, rngs=rngs)

    def weights(self, graph: TokenGraph) -> Array:
        return self.readout.weights(graph, [graph.nodes])


class AdaPoolAttention(Pooler):
    """Adaptive pooling by one attention query (Brothers 2025): the sentence's mean asks, every
    token answers.

    `q = W_q mean_i x_i`, `pi^h = softmax_i(q^h . W_k^h x_i / sqrt(dim))` for each of `heads` heads
    of width dim / heads, `z = W_o [sum_i pi_i^h W_v^h x_i]_h`; no biases and no residual. W_k and
    W_v are moved to the other side of their
    sums, which changes no number: keys and values of single tokens are never built, nor a gradient
        towards the states.
    """

    def __init__(self, dim: int, heads: int = 1, *, dtype: str = "float32", rngs: nnx.Rngs):
        require_divisor(heads, dim, "the width of the states")
        self.pooled_dim, self.heads, self.dtype = dim, heads, jnp.dtype(dtype)
        self.query, self.key, self.value, self.out = (
            nnx.Param(glorot(rngs.params(), (dim, dim))) for _ in range(4)
        )

    @classmethod
    def from_config(
        cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs
    ) -> AdaPoolAttention:
        return cls(dim, config.heads, dtype=config.dtype, rngs=rngs)

    def _split(self, kernel: nnx.Param) -> Float[Array, "dim heads width"]:
        return kernel[...].reshape(self.pooled_dim, self.heads, -1)

    def head_weights(self, graph: TokenGraph) -> list[Float[Array, "*nodes"]]:
        """pi of each head, float32."""
        mean = graph.sentence_sum(graph.nodes) / jnp.maximum(graph.counts(), 1)
        query = (mean @ self.query[...]).reshape(-1, self.heads, self.pooled_dim // self.heads)
        asked = jnp.einsum("bhw,dhw->bhd", query, self._split(self.key)) / math.sqrt(
            self.pooled_dim
        )
        scores = graph.dot(graph.nodes, asked.astype(self.dtype))
        return [graph.softmax(scores[..., head]) for head in range(self.heads)]

    def weights(self, graph: TokenGraph) -> Array:
        """The heads' mean."""
        return sum(self.head_weights(graph)) / self.heads  # type: ignore[return-value]

    def __call__(
        self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Array:
        heard = jnp.stack(
            [graph.sentence_sum(graph.nodes, weights) for weights in self.head_weights(graph)],
            axis=1,
        )
        values = jnp.einsum("bhd,dhw->bhw", heard, self._split(self.value))
        return values.reshape(len(values), -1) @ self.out[...]


class Glot(Pooler):
    """GLOT: Token-GNN over the token graph, jumping knowledge, attention readout (paper section
    3.2, Algorithm 1).

    Args:
        dim: width of the graph's nodes (after the optional projection).
        hidden_dim: width of the GNN's layers.
        num_layers: K; 0 leaves the readout alone, which is AdaPool with another scorer width.
        gnn: layer type, a name of GNN_LAYERS: gat, gcn, gin, gine or sage.
        jk: "cat", "max", "mean" or "none", see TokenGNN.
        heads, edge_term, attention_dropout: of GAT.
        residual, virtual_node: see TokenGNN; not in the paper.
        scorer_dim: width of the scorer; default max(128, width // 2), width = that of a refined
            token.
        dtype: arithmetic; parameters and softmaxes stay float32.

    Raises:
        UsageError: for unknown names and impossible combinations.
    """

    uses_edges = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 128,
        num_layers: int = 2,
        *,
        gnn: str = "gat",
        jk: str = "cat",
        heads: int = 1,
        edge_term: bool = False,
        attention_dropout: float = 0.0,
        residual: bool = False,
        virtual_node: bool = False,
        scorer_dim: int | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.gnn = TokenGNN(
            dim,
            hidden_dim,
            num_layers,
            gnn=gnn,
            jk=jk,
            heads=heads,
            edge_term=edge_term,
            attention_dropout=attention_dropout,
            residual=residual,
            virtual_node=virtual_node,
            graph_free=not self.uses_edges,
            dtype=dtype,
            rngs=rngs,
        )
        self.pooled_dim = sum(self.gnn.widths)
        self.tau: float | None = None
        """Threshold of the graphs it was trained on, where a loaded checkpoint came with one; read
        by nothing here.
        """
        self.readout = AttentionReadout(
            self.gnn.widths, scorer_dim or max(128, self.pooled_dim // 2), dtype=dtype, rngs=rngs
        )

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Glot:
        names = (
            "hidden_dim",
            "num_layers",
            "gnn",
            "jk",
            "residual",
            "virtual_node",
            "scorer_dim",
            "dtype",
        )
        if config.gnn == "gat":
            names += ("heads", "edge_term", "attention_dropout")
        return cls(dim, **{name: getattr(config, name) for name in names}, rngs=rngs)

    def weights(self, graph: TokenGraph) -> Array:
        return self.readout.weights(graph, self.gnn(graph))

    def __call__(
        self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Array:
        return self.readout(graph, self.gnn(graph, train=train, rngs=rngs))


class Mlp(Glot):
    """GLOT with an MLP in the GNN's place (paper Table 15): the same K, jumping knowledge and
    readout, and no graph.

    From a config its width is the one that brings its parameters closest to those of the glot of
    the same config (without residual and virtual node). The task's head on top is not counted, and
    differs where the widths do.
    """

    uses_edges = False
    matched: int | None = None
    """Parameters of the glot it stands in for."""

    @classmethod
    def from_config(cls, dim: int, config: PoolerConfig, *, kind: str, rngs: nnx.Rngs) -> Mlp:
        glot = dataclasses.replace(config, pooler="glot", residual=False, virtual_node=False)
        wanted = count_parameters(
            nnx.eval_shape(lambda: Glot.from_config(dim, glot, kind=kind, rngs=nnx.Rngs(0)))
        )
        scorer = config.scorer_dim or max(
            128,
            (
                dim + config.num_layers * config.hidden_dim
                if config.jk == "cat"
                else config.hidden_dim
            )
            // 2,
        )

        def build(width: int, rngs: nnx.Rngs) -> Mlp:
            return cls(
                dim,
                width,
                config.num_layers,
                jk=config.jk,
                scorer_dim=scorer,
                dtype=config.dtype,
                rngs=rngs,
            )

        # The count grows with the width, so the two widths around the wanted count are found by
        # bisection.
        widths = range(1, 1 + max(8, 4 * config.hidden_dim) if config.num_layers else 2)
        sizes = functools.cache(
            lambda width: count_parameters(nnx.eval_shape(lambda: build(width, nnx.Rngs(0))))
        )
        above = bisect.bisect_left(widths, wanted, key=sizes)
        nearest = min(
            widths[max(0, above - 1) : above + 1], key=lambda width: abs(sizes(width) - wanted)
        )
        mlp = build(nearest, rngs)
        mlp.matched = wanted
        return mlp


def count_parameters(module: nnx.Module | None) -> int:
    """Trained numbers of a module (or of its shapes), counted from its tree; none of none."""
    return (
        0
        if module is None
        else sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
    )


POOLERS: dict[str, type[Pooler]] = {
    "cls": Cls,
    "first": First,
    "last": Last,
    "mean": Mean,
    "max": Max,
    "adapool": AdaPool,
    "adapool-attention": AdaPoolAttention,
    "mlp": Mlp,
    "glot": Glot,
}

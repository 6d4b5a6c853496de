"""Message-passing layers, each written once over TokenGraph, and the Token-GNN that stacks them
(paper section 3.2, step 2).
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.checks import require_divisor
from glot_jax.errors import lookup, require
from glot_jax.graphs import TokenGraph
from glot_jax.pooling.init import glorot, torch_linear
from glot_jax.pooling.norm import BatchNorm
from glot_jax.pooling.project import project


class GAT(nnx.Module):
    """Graph attention with exactly one self-loop (PyTorch Geometric's GATConv; paper Algorithm 1).

    `e_ij = leaky_relu(a_src . W u_j + a_dst . W u_i + c, 0.2)`, softmax over j in N(i), `sum_j
    alpha_ij W u_j + b`. c is 0, or with `edge_term` the release's `a_edge . w_edge` (an edge
    attribute of 1 on every edge).
    Several heads are concatenated: hidden_dim = heads x width. In training a share
        `attention_dropout` of the alpha is
    set to 0, as GATConv's `dropout` does.
    """

    options: ClassVar[tuple[str, ...]] = ("heads", "edge_term", "attention_dropout")

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        heads: int = 1,
        edge_term: bool = False,
        attention_dropout: float = 0.0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        require_divisor(heads, hidden_dim, "hidden_dim")
        shape = (heads, hidden_dim // heads)
        self.heads, self.dtype, self.attention_dropout = heads, jnp.dtype(dtype), attention_dropout
        self.kernel = nnx.Param(glorot(rngs.params(), (dim, hidden_dim)))
        self.source = nnx.Param(glorot(rngs.params(), shape))
        self.target = nnx.Param(glorot(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(hidden_dim))
        self.edge = nnx.Param(glorot(rngs.params(), shape)) if edge_term else None
        self.edge_kernel = (
            nnx.Param(glorot(rngs.params(), (hidden_dim, 1)).reshape(shape)) if edge_term else None
        )

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        values = project(nodes, self.kernel, self.dtype)
        values = values.reshape(*values.shape[:-1], self.heads, -1)
        # Both scores of a token in one product; of one head a plain one, for which XLA does not
        # transpose the values.
        vectors = jnp.stack([self.source[...], self.target[...]], axis=-1).astype(self.dtype)
        if self.heads == 1:
            scores = project(values[..., 0, :], vectors[0], self.dtype, jnp.float32)[..., None, :]
        else:
            scores = jnp.einsum(
                "...hc,hcs->...hs", values, vectors, preferred_element_type=jnp.float32
            )
        source, target = scores[..., 0], scores[..., 1]
        term = None
        if self.edge is not None and self.edge_kernel is not None:
            term = jnp.sum(self.edge[...] * self.edge_kernel[...], axis=-1)
        dropout = self.attention_dropout if train else 0.0
        mixed = graph.attend(
            source,
            target,
            values,
            term,
            dropout=dropout,
            key=rngs.dropout() if dropout and rngs is not None else None,
        )
        return mixed.reshape(*mixed.shape[:-2], -1) + self.bias[...].astype(self.dtype)


class GCN(nnx.Module):
    """`D^-1/2 A D^-1/2 (U W) + b`, exactly one self-loop of weight 1, D = in-degree (PyTorch
    Geometric's GCNConv).
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dim: int, hidden_dim: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.dtype = jnp.dtype(dtype)
        self.kernel = nnx.Param(glorot(rngs.params(), (dim, hidden_dim)))
        self.bias = nnx.Param(jnp.zeros(hidden_dim))

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        scale = jax.lax.rsqrt(graph.degree("exactly_one")).astype(
            self.dtype
        )  # a node's own loop makes it 1 or more
        values = project(nodes, self.kernel, self.dtype)
        return scale * graph.sum(scale * values, "exactly_one") + self.bias[...].astype(self.dtype)


class GIN(nnx.Module):
    """`MLP((1 + eps) u_i + sum_{j in N(i)} u_j)`, MLP = Linear, BatchNorm, relu, Linear (GINConv
    with PyG's MLP).

    eps is 0 and not trained; the graph's own loops are in N(i), so a token counts twice. Both being
    linear, the first
    Linear comes before the sum: the sum then runs over hidden_dim numbers instead of dim, to the
        same result.
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dim: int, hidden_dim: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.dtype = jnp.dtype(dtype)
        self.epsilon = nnx.BatchStat(
            jnp.zeros(1)
        )  # a buffer of the reference: kept with the statistics, never trained
        self.norm = BatchNorm(hidden_dim)
        self.kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), dim))
        self.out_kernel = nnx.Param(
            torch_linear(rngs.params(), (hidden_dim, hidden_dim), hidden_dim)
        )
        self.out_bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), hidden_dim))

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        values = project(nodes, self.kernel, self.dtype)
        return self.perceive(
            graph, (1 + self.epsilon[...].astype(self.dtype)) * values + graph.sum(values), train
        )

    def perceive(self, graph: TokenGraph, values: Array, train: bool) -> Array:
        """The MLP from its first bias on."""
        values = self.norm(values + self.bias[...].astype(self.dtype), graph.node_mask, train=train)
        return project(jax.nn.relu(values), self.out_kernel, self.dtype) + self.out_bias[
            ...
        ].astype(self.dtype)


class GINE(GIN):
    """`MLP((1 + eps) u_i + sum_j relu(u_j + e))`, `e = w_edge + b_edge`: the edge attribute is 1 on
    every edge.

    The released module crashes here; this is PyTorch Geometric's GINEConv with an edge attribute of
    width 1.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        super().__init__(dim, hidden_dim, dtype=dtype, rngs=rngs)
        self.edge_kernel = nnx.Param(torch_linear(rngs.params(), (dim,), 1))
        self.edge_bias = nnx.Param(torch_linear(rngs.params(), (dim,), 1))

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        edge = (self.edge_kernel[...] + self.edge_bias[...]).astype(self.dtype)
        # relu stands between the two, so here the sum comes before the product.
        total = (1 + self.epsilon[...].astype(self.dtype)) * nodes + graph.sum(
            jax.nn.relu(nodes + edge)
        )
        return self.perceive(graph, project(total, self.kernel, self.dtype), train)


class SAGE(nnx.Module):
    """`W [u_i ; mean_{j in N(i)} u_j] + b` (paper eq. 1-2; SAGEConv with root weight and mean)."""

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dim: int, hidden_dim: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.dtype = jnp.dtype(dtype)
        self.root_kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.mean_kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), dim))

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        own, sent = (
            project(nodes, kernel, self.dtype) for kernel in (self.root_kernel, self.mean_kernel)
        )
        return own + graph.mean(sent) + self.bias[...].astype(self.dtype)


GNN_LAYERS: dict[str, Any] = {"gat": GAT, "gcn": GCN, "gin": GIN, "gine": GINE, "sage": SAGE}


class TokenLinear(nnx.Module):
    """`U W + b`, every token by itself: what stands in for a GNN layer in the MLP baseline (paper
    Table 15).
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, dim: int, hidden_dim: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        self.dtype = jnp.dtype(dtype)
        self.kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), dim))

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        return project(nodes, self.kernel, self.dtype) + self.bias[...].astype(self.dtype)


class Residual(nnx.Module):
    """`LayerNorm(new + W old)` per token; W is there only where the width changes."""

    def __init__(self, dim: int, hidden_dim: int, *, dtype: str, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(dtype)
        self.norm = nnx.LayerNorm(hidden_dim, epsilon=1e-5, dtype=self.dtype, rngs=rngs)
        self.kernel = (
            nnx.Param(glorot(rngs.params(), (dim, hidden_dim))) if dim != hidden_dim else None
        )

    def __call__(
        self, new: Float[Array, "*nodes hidden"], old: Float[Array, "*nodes dim"]
    ) -> Float[Array, "*nodes hidden"]:
        return self.norm(
            new + (old if self.kernel is None else project(old, self.kernel, self.dtype))
        )


class VirtualNode(nnx.Module):
    """`u_i + MLP(mean_j u_j)`: one more node that hears and speaks to all of its sentence; the
    readout never sees it.
    """

    def __init__(self, width: int, *, dtype: str, rngs: nnx.Rngs):
        options: dict[str, Any] = {"dtype": jnp.dtype(dtype), "rngs": rngs}
        self.hear, self.speak = (
            nnx.Linear(width, width, **options),
            nnx.Linear(width, width, **options),
        )

    def __call__(
        self, graph: TokenGraph, nodes: Float[Array, "*nodes width"]
    ) -> Float[Array, "*nodes width"]:
        mean = graph.sentence_sum(nodes) / jnp.maximum(graph.counts(), 1)
        return nodes + graph.spread(self.speak(jax.nn.relu(self.hear(mean)))).astype(nodes.dtype)


class TokenGNN(nnx.Module):
    """K layers, `U_k = relu(layer_k(U_{k-1}))`, and jumping knowledge (paper section 3.2).

    The result is a tuple of parts whose concatenation is the refined token: the readout multiplies
    each part with its own rows of the scorer, so nothing is ever computed towards the frozen
    states, and no wide array is built.

    | jk   | parts                              | width                      |
    |------|------------------------------------|----------------------------|
    | cat  | U_0, U_1 .. U_K                    | dim + K x hidden_dim       |
    | max  | elementwise maximum of U_1 .. U_K  | hidden_dim                 |
    | mean | elementwise mean of U_1 .. U_K     | hidden_dim                 |
    | none | U_K                                | hidden_dim (dim for K = 0) |

    Not in the paper, and off by default: `residual` makes a layer `U_k =
    LayerNorm(relu(layer_k(U_{k-1})) + U_{k-1})`, `virtual_node` then adds an MLP of the sentence's
    mean. `graph_free` puts a Linear in every layer's place.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        num_layers: int,
        *,
        gnn: str = "gat",
        jk: str = "cat",
        heads: int = 1,
        edge_term: bool = False,
        attention_dropout: float = 0.0,
        residual: bool = False,
        virtual_node: bool = False,
        graph_free: bool = False,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.jk = lookup(
            {name: name for name in ("cat", "max", "mean", "none")}, jk, "jumping knowledge (--jk)"
        )
        require(
            num_layers > 0 or jk in ("cat", "none"),
            "jk max and mean need at least one layer",
            num_layers,
            "Use jk='cat'.",
        )
        layer = lookup(GNN_LAYERS, gnn, "GNN layer (--gnn)")
        if graph_free:
            layer, options = TokenLinear, {}
        else:
            given = {
                "heads": (heads, 1),
                "edge_term": (edge_term, False),
                "attention_dropout": (attention_dropout, 0.0),
            }
            options = {name: value for name, (value, default) in given.items() if value != default}
        unknown = [name for name in options if name not in layer.options]
        require(
            not unknown,
            f"only gat has {' and '.join(unknown)}",
            f"gnn={gnn!r} with {options}",
            "Use gnn='gat', or leave it out.",
        )
        widths = [dim, *[hidden_dim] * num_layers]
        self.layers = nnx.List(
            layer(width, hidden_dim, dtype=dtype, rngs=rngs, **options) for width in widths[:-1]
        )
        self.residuals = nnx.List(
            Residual(width, hidden_dim, dtype=dtype, rngs=rngs) for width in widths[:-1] if residual
        )
        self.virtual_nodes = nnx.List(
            VirtualNode(width, dtype=dtype, rngs=rngs) for width in widths[1:] if virtual_node
        )
        self.widths = tuple(widths) if jk == "cat" else (widths[-1],)

    def __call__(
        self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> tuple[Array, ...]:
        states = [graph.nodes]
        with jax.named_scope("token_gnn"):
            for k, layer in enumerate(self.layers):
                nodes = jax.nn.relu(layer(graph, states[-1], train=train, rngs=rngs))
                if self.residuals:
                    nodes = self.residuals[k](nodes, states[-1])
                if self.virtual_nodes:
                    nodes = self.virtual_nodes[k](graph, nodes)
                states.append(nodes)
        if self.jk == "cat":
            return tuple(states)
        if self.jk == "none":
            return (states[-1],)
        if self.jk == "mean":
            return (sum(states[1:]) / len(states[1:]),)  # type: ignore[operator]
        # Not jnp.maximum: under jit its gradient was wrong where both branches are differentiated.
        return (functools.reduce(lambda a, b: jnp.where(a >= b, a, b), states[1:]),)

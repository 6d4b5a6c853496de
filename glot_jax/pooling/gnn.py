"""Message-passing layers, each written once over TokenGraph, and the Token-GNN that stacks them (METHOD 1.2)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config import lookup, require
from glot_jax.graphs import TokenGraph
from glot_jax.pooling.init import glorot


class GAT(nnx.Module):
    """Graph attention with exactly one self-loop (PyTorch Geometric's GATConv; paper Algorithm 1).

    `e_ij = leaky_relu(a_src . W u_j + a_dst . W u_i + c, 0.2)`, softmax over j in N(i), `sum_j alpha_ij W u_j + b`.
    c is 0, or with `edge_term` the release's `a_edge . w_edge` (an edge attribute of 1 on every edge).
    Several heads are concatenated: hidden_dim = heads x width.
    """

    def __init__(
        self, dim: int, hidden_dim: int, *, heads: int = 1, edge_term: bool = False, dtype: str = "float32", rngs: nnx.Rngs
    ):
        require(hidden_dim % heads == 0, "heads must divide hidden_dim", f"{heads} and {hidden_dim}", "Choose a divisor.")
        shape = (heads, hidden_dim // heads)
        self.heads, self.dtype = heads, jnp.dtype(dtype)
        self.kernel = nnx.Param(glorot(rngs.params(), (dim, hidden_dim)))
        self.source = nnx.Param(glorot(rngs.params(), shape))
        self.target = nnx.Param(glorot(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(hidden_dim))
        self.edge = nnx.Param(glorot(rngs.params(), shape)) if edge_term else None
        self.edge_kernel = nnx.Param(glorot(rngs.params(), (hidden_dim, 1)).reshape(shape)) if edge_term else None

    def __call__(
        self, graph: TokenGraph, nodes: Float[Array, "*nodes dim"], *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "*nodes hidden"]:
        values = nodes @ self.kernel[...].astype(self.dtype)
        values = values.reshape(*values.shape[:-1], self.heads, -1)
        source, target = (
            jnp.einsum("...hc,hc->...h", values, vector[...].astype(self.dtype), preferred_element_type=jnp.float32)
            for vector in (self.source, self.target)
        )
        term = None
        if self.edge is not None and self.edge_kernel is not None:
            term = jnp.sum(self.edge[...] * self.edge_kernel[...], axis=-1)
        mixed = graph.attend(source, target, values, term)
        return mixed.reshape(*mixed.shape[:-2], -1) + self.bias[...].astype(self.dtype)


GNN_LAYERS = {"gat": GAT}


class TokenGNN(nnx.Module):
    """K layers, `U_k = relu(layer_k(U_{k-1}))`, and jumping knowledge over `U_0 .. U_K` (paper section 3.2).

    The result is a tuple of parts whose concatenation is the refined token: the readout multiplies each part with its
    own rows of the scorer, so nothing is ever computed towards the frozen states, and no wide array is built.

    ==== ================================== =========================
    jk   parts                              width
    ==== ================================== =========================
    cat  U_0, U_1 .. U_K                    dim + K x hidden_dim
    max  elementwise maximum of U_1 .. U_K  hidden_dim
    mean elementwise mean of U_1 .. U_K     hidden_dim
    none U_K                                hidden_dim (dim for K = 0)
    ==== ================================== =========================
    """

    def __init__(
        self, dim: int, hidden_dim: int, num_layers: int, *, gnn: str = "gat", jk: str = "cat", heads: int = 1,
        edge_term: bool = False, dtype: str = "float32", rngs: nnx.Rngs,
    ):
        self.jk = lookup({name: name for name in ("cat", "max", "mean", "none")}, jk, "jumping knowledge (--jk)")
        require(num_layers > 0 or jk in ("cat", "none"), "jk max and mean need at least one layer", num_layers, "Use jk='cat'.")
        layer = lookup(GNN_LAYERS, gnn, "GNN layer (--gnn)")
        self.layers = nnx.List(
            layer(dim if k == 0 else hidden_dim, hidden_dim, heads=heads, edge_term=edge_term, dtype=dtype, rngs=rngs)
            for k in range(num_layers)
        )
        last = hidden_dim if num_layers else dim
        self.widths = (dim, *[hidden_dim] * num_layers) if jk == "cat" else (last,)

    def __call__(self, graph: TokenGraph, *, train: bool = False, rngs: nnx.Rngs | None = None) -> tuple[Array, ...]:
        states = [graph.nodes]
        with jax.named_scope("token_gnn"):
            for layer in self.layers:
                states.append(jax.nn.relu(layer(graph, states[-1], train=train, rngs=rngs)))
        if self.jk == "cat":
            return tuple(states)
        if self.jk == "none":
            return (states[-1],)
        if self.jk == "mean":
            return (sum(states[1:]) / len(states[1:]),)  # type: ignore[operator]
        # Not jnp.maximum: under jit its gradient was wrong where both branches are differentiated.
        return (functools.reduce(lambda a, b: jnp.where(a >= b, a, b), states[1:]),)

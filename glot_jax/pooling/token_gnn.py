"""The Token-GNN: layers stacked, and jumping knowledge over them (paper section 3.2, step 2)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.errors import UsageError
from glot_jax.graphs import TokenGraph
from glot_jax.graphs.token_graph import require_token_graph
from glot_jax.pooling.gnn_layer import DEFAULT_OPTIONS, GNNLayer, LayerOptions
from glot_jax.pooling.init import glorot_param
from glot_jax.pooling.layers import GAT
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork

JumpingKnowledge = Literal["cat", "max", "mean", "none"]


@dataclasses.dataclass(frozen=True)
class GNNDesign:
    """What a Token-GNN is made of."""

    hidden_dim: int = 128
    """Width of the layers."""
    num_layers: int = 2
    """K; 0 leaves the nodes as they are."""
    layer: type[GNNLayer] = GAT
    options: LayerOptions = DEFAULT_OPTIONS
    """What every layer is told."""
    jk: str = "cat"
    """Jumping knowledge: "cat", "max", "mean" or "none", see TokenGNN."""
    residual: bool = False
    virtual_node: bool = False

    def __post_init__(self) -> None:
        if self.jk not in get_args(JumpingKnowledge):
            raise UsageError(
                rule="jumping knowledge (--jk) must be cat, max, mean or none",
                got=repr(self.jk),
                fix="The default is 'cat'.",
            )
        # "cat" and "none" have U_0 left without layers; the other two combine U_1 .. U_K.
        if self.num_layers == 0 and self.jk in ("max", "mean"):
            raise UsageError(
                rule="jk max and mean must have at least one layer to combine",
                got=f"num_layers=0 with jk={self.jk!r}",
                fix="Use jk='cat'.",
            )
        self.options.require_read_by(self.layer)


class Residual(nnx.Module):
    """`LayerNorm(new + W old)` per token; W is there only where the width changes."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.dtype = jnp.dtype(dtype)
        self.norm = nnx.LayerNorm(
            hidden_dim,
            epsilon=1e-5,
            dtype=self.dtype,
            rngs=rngs,
        )
        # Of equal widths the input is added as it is, without a kernel to learn the identity.
        kernel = None
        if dim != hidden_dim:
            kernel = glorot_param(rngs, (dim, hidden_dim))
        self.kernel = kernel

    def __call__(
        self,
        new: Float[Array, "*nodes hidden"],
        old: Float[Array, "*nodes dim"],
    ) -> Float[Array, "*nodes hidden"]:
        """Add a layer's input to its output, and normalise."""
        if self.kernel is not None:
            old = project(old, self.kernel, self.dtype)
        return self.norm(new + old)


class VirtualNode(nnx.Module):
    """`u_i + MLP(mean_j u_j)`: one more node that hears and speaks to all of its sentence.

    The readout never sees it.
    """

    def __init__(
        self,
        width: int,
        *,
        dtype: str,
        rngs: nnx.Rngs,
    ):
        self.hear = nnx.Linear(
            width,
            width,
            dtype=jnp.dtype(dtype),
            rngs=rngs,
        )
        self.speak = nnx.Linear(
            width,
            width,
            dtype=jnp.dtype(dtype),
            rngs=rngs,
        )

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes width"],
    ) -> Float[Array, "*nodes width"]:
        """Add to every token what the virtual node makes of its sentence."""
        # At least 1: a sentence of padding has no token to divide by.
        counts = jnp.maximum(graph.counts(), 1)
        mean = graph.sentence_sum(nodes) / counts
        # Heard and said once a sentence, whatever its length.
        heard = jax.nn.relu(self.hear(mean))
        said = self.speak(heard)
        spread = graph.spread(said)
        return nodes + spread.astype(nodes.dtype)


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
    mean.

    Args:
        dim: width of the graph's nodes.
        design: layers, their options, and how they are combined.
        rngs: with a `params` stream.
    """

    def __init__(
        self,
        dim: int,
        design: GNNDesign,
        *,
        rngs: nnx.Rngs,
    ):
        hidden_dim = design.hidden_dim
        dtype = design.options.dtype
        self.jk = design.jk
        widths = [dim, *[hidden_dim] * design.num_layers]
        # Built kind by kind, not layer by layer: the order in which keys are drawn is part of what
        # a seed means.
        self.layers = nnx.List(
            design.layer(
                width,
                hidden_dim,
                design.options,
                rngs=rngs,
            )
            for width in widths[:-1]
        )
        self.residuals = nnx.List(
            Residual(width, hidden_dim, dtype=dtype, rngs=rngs)
            for width in widths[:-1]
            if design.residual
        )
        self.virtual_nodes = nnx.List(
            VirtualNode(width, dtype=dtype, rngs=rngs)
            for width in widths[1:]
            if design.virtual_node
        )
        self.widths = tuple(widths) if self.jk == "cat" else (widths[-1],)

    def __call__(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Array, ...]:
        """Return the parts of every refined token, [*nodes, width] each.

        Args:
            graph: tokens and edges.
            train: batch statistics and dropout.
            rngs: with a `dropout` stream, where something is dropped.

        Raises:
            UsageError: `graph` is not a TokenGraph.
        """
        require_token_graph(graph, "TokenGNN")
        outputs = [graph.nodes]
        with jax.named_scope("token_gnn"):
            for k, layer in enumerate(self.layers):
                old = outputs[-1]
                new = layer(graph, old, train=train, rngs=rngs)
                # After every layer, the last one too: U_K is an output like the others.
                nodes = jax.nn.relu(new)
                if self.residuals:
                    nodes = self.residuals[k](nodes, old)
                if self.virtual_nodes:
                    nodes = self.virtual_nodes[k](graph, nodes)
                outputs.append(nodes)
        if self.jk == "cat":
            return tuple(outputs)
        if self.jk == "none":
            return (outputs[-1],)
        # Without U_0, whose width may be another.
        refined = outputs[1:]
        if self.jk == "mean":
            total = functools.reduce(jnp.add, refined, 0)
            mean = total / len(refined)
            return (jnp.asarray(mean),)
        largest = functools.reduce(_larger, refined)
        return (largest,)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """Count the matmuls of all layers; `frozen` says that the graph's nodes are."""
        for k, layer in enumerate(self.layers):
            # Only the first layer reads the graph's own nodes.
            still = frozen and k == 0
            layer.work(work, frozen=still)
            if not self.residuals:
                continue
            if self.residuals[k].kernel is not None:
                work.linear(layer.dim, layer.hidden_dim, frozen=still)


def _larger(a: Array, b: Array) -> Array:
    # Not jnp.maximum: under jit its gradient was wrong where both branches are differentiated.
    return jnp.where(a >= b, a, b)

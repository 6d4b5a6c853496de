"""Message-passing layers, each written once over TokenGraph (paper section 3.2, step 2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from glot_jax.config.checks import require_divisor
from glot_jax.graphs import TokenGraph
from glot_jax.graphs.axes import match_rank
from glot_jax.moved import moved_name
from glot_jax.pooling.gnn_layer import DEFAULT_OPTIONS, GNN_LAYERS, GNNLayer, LayerOptions
from glot_jax.pooling.init import glorot, glorot_param, linear_param
from glot_jax.pooling.norm import BatchNorm
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork


@GNN_LAYERS.register("gat")
class GAT(GNNLayer):
    """Graph attention with exactly one self-loop (PyTorch Geometric's GATConv; paper Algorithm 1).

    `e_ij = leaky_relu(a_src . W u_j + a_dst . W u_i + c, 0.2)`, softmax over j in N(i), `sum_j
    alpha_ij W u_j + b`. c is 0, or with `edge_term` the release's `a_edge . w_edge` (an edge
    attribute of 1 on every edge). Several heads are concatenated: hidden_dim = heads x width. In
    training a share `attention_dropout` of the alpha is set to 0, as GATConv's `dropout` does.
    """

    reads = frozenset({"heads", "edge_term", "attention_dropout"})
    exportable = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        require_divisor(options.heads, hidden_dim, "hidden_dim")
        # One vector a head, as PyTorch Geometric has them: the fans of their initialiser are heads
        # and width.
        shape = (options.heads, hidden_dim // options.heads)
        self.heads = options.heads
        self.attention_dropout = options.attention_dropout
        self.kernel = glorot_param(rngs, (dim, hidden_dim))
        self.source = glorot_param(rngs, shape)
        self.target = glorot_param(rngs, shape)
        self.bias = nnx.Param(jnp.zeros(hidden_dim))
        edge = None
        edge_kernel = None
        if options.edge_term:
            edge = glorot_param(rngs, shape)
            # Drawn in the reference's shape, whose fans decide the bound.
            drawn = glorot(rngs.params(), (hidden_dim, 1))
            edge_kernel = nnx.Param(drawn.reshape(shape))
        self.edge = edge
        self.edge_kernel = edge_kernel

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        values = project(nodes, self.kernel, self.dtype)
        nodes_shape = values.shape[:-1]
        values = values.reshape(*nodes_shape, self.heads, -1)
        scores = self._scores(values)
        constant = None
        if self.edge is not None and self.edge_kernel is not None:
            # Every edge has the attribute 1, so the term of all edges is one number a head.
            products = self.edge[...] * self.edge_kernel[...]
            constant = jnp.sum(products, axis=-1)
        dropout = self.attention_dropout if train else 0.0
        key = None
        # Drawn only where it is used: a stream that is not drawn from keeps its place.
        if dropout and rngs is not None:
            key = rngs.dropout()
        mixed = graph.attend(
            scores[..., 0],
            scores[..., 1],
            values,
            constant,
            dropout=dropout,
            key=key,
        )
        joined = mixed.reshape(*mixed.shape[:-2], -1)
        bias = self.bias[...].astype(self.dtype)
        return joined + match_rank(bias, joined)

    def _scores(self, values: Array) -> Array:
        """Return each token's scores [*nodes, heads, 2], as a sender and as a receiver."""
        # Both in one product; of one head a plain one, for which XLA does not transpose the values.
        vectors = jnp.stack([self.source[...], self.target[...]], axis=-1)
        vectors = vectors.astype(self.dtype)
        if self.heads == 1:
            scores = project(
                values[..., 0, :],
                vectors[0],
                self.dtype,
                jnp.float32,
            )
            return scores[..., None, :]
        return jnp.einsum(
            "...hc,hcs->...hs",
            values,
            vectors,
            preferred_element_type=jnp.float32,
        )

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.mix(self.hidden_dim, weighted=True)


@GNN_LAYERS.register("gcn")
class GCN(GNNLayer):
    """`D^-1/2 A D^-1/2 (U W) + b` (PyTorch Geometric's GCNConv).

    There is exactly one self-loop of weight 1; D is the in-degree.
    """

    exportable = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.kernel = glorot_param(rngs, (dim, hidden_dim))
        self.bias = nnx.Param(jnp.zeros(hidden_dim))

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        # Nothing here is dropped, nor normalised over a batch.
        del train, rngs
        # No division by zero: a node's own loop makes its degree 1 or more.
        scale = jax.lax.rsqrt(graph.degree("exactly_one"))
        scale = scale.astype(self.dtype)
        values = project(nodes, self.kernel, self.dtype)
        # Both factors stand at nodes: no normalised adjacency is ever built.
        heard = graph.sum(scale * values, "exactly_one")
        bias = self.bias[...].astype(self.dtype)
        scaled = scale * heard
        return scaled + match_rank(bias, scaled)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.mix(self.hidden_dim, weighted=False)


@GNN_LAYERS.register("gin")
class GIN(GNNLayer):
    """`MLP((1 + eps) u_i + sum_{j in N(i)} u_j)` (GINConv with PyTorch Geometric's MLP).

    The MLP is Linear, BatchNorm, relu, Linear.
    eps is 0 and not trained; the graph's own loops are in N(i), so a token counts twice. Both being
    linear, the first Linear comes before the sum: the sum then runs over hidden_dim numbers instead
    of dim, to the same result.
    """

    exportable = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        # A buffer of the reference: kept with the statistics, never trained.
        self.epsilon = nnx.BatchStat(jnp.zeros(1))
        self.norm = BatchNorm(hidden_dim)
        square = (hidden_dim, hidden_dim)
        self.kernel = linear_param(rngs, (dim, hidden_dim), dim)
        self.bias = linear_param(rngs, (hidden_dim,), dim)
        self.out_kernel = linear_param(rngs, square, hidden_dim)
        self.out_bias = linear_param(rngs, (hidden_dim,), hidden_dim)

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        # Nothing here is dropped.
        del rngs
        # Without its bias, which would be added once a neighbour; `perceive` adds it once.
        values = project(nodes, self.kernel, self.dtype)
        own = match_rank(self._own_share(), values) * values
        total = own + graph.sum(values)
        return self.perceive(graph, total, train)

    def _own_share(self) -> Array:
        epsilon = self.epsilon[...].astype(self.dtype)
        return 1 + epsilon

    def perceive(
        self,
        graph: TokenGraph,
        values: Array,
        train: bool,
    ) -> Array:
        """Apply the MLP from its first bias on."""
        bias = self.bias[...].astype(self.dtype)
        values = values + match_rank(bias, values)
        # Over the batch's real tokens: padding would move mean and variance.
        normal = self.norm(values, graph.node_mask, train=train)
        hidden = jax.nn.relu(normal)
        out = project(hidden, self.out_kernel, self.dtype)
        out_bias = self.out_bias[...].astype(self.dtype)
        return out + match_rank(out_bias, out)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.linear(self.hidden_dim, self.hidden_dim)
        work.mix(self.hidden_dim, weighted=False)


@GNN_LAYERS.register("gine")
class GINE(GIN):
    """`MLP((1 + eps) u_i + sum_j relu(u_j + e))`, `e = w_edge + b_edge`.

    The edge attribute is 1 on every edge. The released module crashes here; this is PyTorch
    Geometric's GINEConv with an edge attribute of width 1.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.edge_kernel = linear_param(rngs, (dim,), 1)
        self.edge_bias = linear_param(rngs, (dim,), 1)

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        # Nothing here is dropped.
        del rngs
        edge = self.edge_kernel[...] + self.edge_bias[...]
        edge = edge.astype(self.dtype)
        own = match_rank(self._own_share(), nodes) * nodes
        # relu stands between the two, so here the sum comes before the product.
        sent = jax.nn.relu(nodes + match_rank(edge, nodes))
        total = own + graph.sum(sent)
        values = project(total, self.kernel, self.dtype)
        return self.perceive(graph, values, train)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        del frozen
        # Its edge term lies below the first product, so something is learned on that side even of
        # frozen states.
        work.linear(self.dim, self.hidden_dim, frozen=False)
        work.linear(self.hidden_dim, self.hidden_dim)
        # It adds up before its product, over the width that comes in.
        work.mix(self.dim, weighted=False)


@GNN_LAYERS.register("sage")
class SAGE(GNNLayer):
    """`W [u_i ; mean_{j in N(i)} u_j] + b` (paper eq. 1-2; SAGEConv with root weight and mean)."""

    exportable = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.root_kernel = linear_param(rngs, (dim, hidden_dim), dim)
        self.mean_kernel = linear_param(rngs, (dim, hidden_dim), dim)
        self.bias = linear_param(rngs, (hidden_dim,), dim)

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        # Nothing here is dropped, nor normalised over a batch.
        del train, rngs
        # Two products instead of one of [u_i ; mean]: nothing is concatenated, and W is kept in the
        # halves that SAGEConv has.
        own = project(nodes, self.root_kernel, self.dtype)
        # The mean of products is the product of the mean, over fewer numbers.
        sent = project(nodes, self.mean_kernel, self.dtype)
        heard = graph.mean(sent)
        bias = self.bias[...].astype(self.dtype)
        total = own + heard
        return total + match_rank(bias, total)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        # Two kernels, of the token itself and of its neighbours.
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.mix(self.hidden_dim, weighted=False)


class TokenLinear(GNNLayer):
    """`U W + b`, every token by itself.

    It stands in for a GNN layer in the MLP baseline (paper Table 15), and is not in the table.
    """

    exportable = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.kernel = linear_param(rngs, (dim, hidden_dim), dim)
        self.bias = linear_param(rngs, (hidden_dim,), dim)

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__; no neighbour is heard."""
        del graph, train, rngs
        values = project(nodes, self.kernel, self.dtype)
        bias = self.bias[...].astype(self.dtype)
        return values + match_rank(bias, values)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)


_MOVED = {
    "Residual": "pooling.token_gnn",
    "TokenGNN": "pooling.token_gnn",
    "VirtualNode": "pooling.token_gnn",
}
"""Name of 0.1 -> module of today."""


def __getattr__(name: str) -> object:
    """Answer for names that have moved, for one release."""
    return moved_name(__name__, name, _MOVED)

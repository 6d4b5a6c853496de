"""Message-passing layers, each written once over TokenGraph (paper section 3.2, step 2), and their
table.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.base import Config
from glot_jax.config.checks import require_divisor
from glot_jax.config.own_options import NO_OPTIONS, OwnOptions
from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import TokenGraph
from glot_jax.graphs.token_graph import require_token_graph
from glot_jax.moved import moved_name
from glot_jax.pooling.init import glorot, torch_linear
from glot_jax.pooling.norm import BatchNorm
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork
from glot_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """What a layer may be told beside its widths; a class reads the fields that it names in
    `reads`.
    """

    heads: int = 1
    """Attention heads, among which the width is divided."""
    edge_term: bool = False
    """Add the release's trained constant to every attention logit."""
    attention_dropout: float = 0.0
    """Share of the attention weights set to 0 in training."""
    dtype: str = "float32"
    """Arithmetic; every layer reads it. Parameters stay float32."""
    own: OwnOptions = NO_OPTIONS
    """Options that a plugin's layer brings, see GNNLayer.own_options."""

    @classmethod
    def from_config(cls, config: PoolerConfig, layer: type[GNNLayer]) -> LayerOptions:
        """Take the options that `layer` reads from a config, the defaults of the others."""
        # `reads` may name fields of PoolerConfig too, which are no options of a layer.
        names = {field.name for field in dataclasses.fields(cls)} & layer.reads
        values = {name: getattr(config, name) for name in names}
        return cls(dtype=config.dtype, own=config.own, **values)

    def require_read_by(self, layer: type[GNNLayer]) -> None:
        """Refuse options that `layer` would ignore.

        Raises:
            UsageError: an option that it does not read differs from its default.
        """
        ignored = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("dtype", "own")
            and field.name not in layer.reads
            and getattr(self, field.name) != field.default
        }
        if ignored:
            reads = ", ".join(sorted(layer.reads)) or "none"
            raise UsageError(
                rule=f"options of {layer.__name__} must be ones that it reads: {reads}",
                got=", ".join(f"{name}={value}" for name, value in ignored.items()),
                fix="Leave them out, or use gnn='gat', which reads them all.",
            )


DEFAULT_OPTIONS = LayerOptions()


class GNNLayer(nnx.Module):
    """`layer(graph, nodes) -> nodes`: a token listens to its neighbours.

    A subclass has `__init__(dim, hidden_dim, options, *, rngs)` and `propagate`. To be found by
    name it is registered: `@GNN_LAYERS.register("mine")`; `Glot(gnn=Mine)` takes the class itself.
    """

    reads: ClassVar[frozenset[str]] = frozenset()
    """Fields of LayerOptions and PoolerConfig that it reads, beside hidden_dim and dtype."""
    own_options: ClassVar[type[Config] | None] = None
    """Settings that it brings along, read by `own_options.from_own(options.own)`: flags of
    `train.py` once its plugin is named.
    """
    exportable: ClassVar[bool] = False
    """Whether `glot export` has the same layer in PyTorch (export/st_module.py)."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        self.dim = dim
        self.hidden_dim = hidden_dim
        self.dtype = jnp.dtype(options.dtype)

    def __call__(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        """Pass messages once.

        Args:
            graph: who listens to whom.
            nodes: what the tokens say, in the graph's own layout.
            train: batch statistics and dropout.
            rngs: with a `dropout` stream, where something is dropped.

        Raises:
            UsageError: `graph` is not a TokenGraph.
        """
        require_token_graph(graph, type(self).__name__)
        return self.propagate(graph, nodes, train=train, rngs=rngs)

    @abc.abstractmethod
    def propagate(
        self,
        graph: TokenGraph,
        nodes: Float[Array, "*nodes dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "*nodes hidden"]:
        """Pass messages once; see `__call__`."""

    @abc.abstractmethod
    def work(self, work: StepWork, *, frozen: bool) -> None:
        """Count the layer's matmuls; `frozen` says that no gradient flows into its input."""


GNN_LAYERS: Registry[type[GNNLayer]] = Registry("GNN layer (--gnn)")
"""Name -> layer, the names that `--gnn` takes."""


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
        shape = (options.heads, hidden_dim // options.heads)
        self.heads = options.heads
        self.attention_dropout = options.attention_dropout
        self.kernel = nnx.Param(glorot(rngs.params(), (dim, hidden_dim)))
        self.source = nnx.Param(glorot(rngs.params(), shape))
        self.target = nnx.Param(glorot(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(hidden_dim))
        edge = None
        edge_kernel = None
        if options.edge_term:
            edge = nnx.Param(glorot(rngs.params(), shape))
            edge_kernel = nnx.Param(glorot(rngs.params(), (hidden_dim, 1)).reshape(shape))
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
        values = values.reshape(*values.shape[:-1], self.heads, -1)
        scores = self._scores(values)
        constant = None
        if self.edge is not None and self.edge_kernel is not None:
            constant = jnp.sum(self.edge[...] * self.edge_kernel[...], axis=-1)
        dropout = self.attention_dropout if train else 0.0
        mixed = graph.attend(
            scores[..., 0],
            scores[..., 1],
            values,
            constant,
            dropout=dropout,
            key=rngs.dropout() if dropout and rngs is not None else None,
        )
        mixed = mixed.reshape(*mixed.shape[:-2], -1)
        return mixed + self.bias[...].astype(self.dtype)

    def _scores(self, values: Array) -> Array:
        """Return each token's scores [*nodes, heads, 2], as a sender and as a receiver."""
        # Both in one product; of one head a plain one, for which XLA does not transpose the values.
        vectors = jnp.stack([self.source[...], self.target[...]], axis=-1).astype(self.dtype)
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
    """`D^-1/2 A D^-1/2 (U W) + b`, exactly one self-loop of weight 1, D = in-degree (PyTorch
    Geometric's GCNConv).
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
        self.kernel = nnx.Param(glorot(rngs.params(), (dim, hidden_dim)))
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
        # No division by zero: a node's own loop makes its degree 1 or more.
        scale = jax.lax.rsqrt(graph.degree("exactly_one")).astype(self.dtype)
        values = project(nodes, self.kernel, self.dtype)
        return scale * graph.sum(scale * values, "exactly_one") + self.bias[...].astype(self.dtype)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.mix(self.hidden_dim, weighted=False)


@GNN_LAYERS.register("gin")
class GIN(GNNLayer):
    """`MLP((1 + eps) u_i + sum_{j in N(i)} u_j)`, MLP = Linear, BatchNorm, relu, Linear (GINConv
    with PyG's MLP).

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
        self.kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), dim))
        self.out_kernel = nnx.Param(torch_linear(rngs.params(), square, hidden_dim))
        self.out_bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), hidden_dim))

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
        total = self._own_share() * values + graph.sum(values)
        return self.perceive(graph, total, train)

    def _own_share(self) -> Array:
        return 1 + self.epsilon[...].astype(self.dtype)

    def perceive(
        self,
        graph: TokenGraph,
        values: Array,
        train: bool,
    ) -> Array:
        """Apply the MLP from its first bias on."""
        values = self.norm(values + self.bias[...].astype(self.dtype), graph.node_mask, train=train)
        out = project(jax.nn.relu(values), self.out_kernel, self.dtype)
        return out + self.out_bias[...].astype(self.dtype)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.linear(self.hidden_dim, self.hidden_dim)
        work.mix(self.hidden_dim, weighted=False)


@GNN_LAYERS.register("gine")
class GINE(GIN):
    """`MLP((1 + eps) u_i + sum_j relu(u_j + e))`, `e = w_edge + b_edge`: the edge attribute is 1 on
    every edge.

    The released module crashes here; this is PyTorch Geometric's GINEConv with an edge attribute of
    width 1.
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
        self.edge_kernel = nnx.Param(torch_linear(rngs.params(), (dim,), 1))
        self.edge_bias = nnx.Param(torch_linear(rngs.params(), (dim,), 1))

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        edge = (self.edge_kernel[...] + self.edge_bias[...]).astype(self.dtype)
        own = self._own_share() * nodes
        # relu stands between the two, so here the sum comes before the product.
        total = own + graph.sum(jax.nn.relu(nodes + edge))
        return self.perceive(graph, project(total, self.kernel, self.dtype), train)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
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
        self.root_kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.mean_kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), dim))

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__."""
        own = project(nodes, self.root_kernel, self.dtype)
        # The mean of products is the product of the mean, over fewer numbers.
        sent = project(nodes, self.mean_kernel, self.dtype)
        return own + graph.mean(sent) + self.bias[...].astype(self.dtype)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See GNNLayer.work."""
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.mix(self.hidden_dim, weighted=False)


class TokenLinear(GNNLayer):
    """`U W + b`, every token by itself: what stands in for a GNN layer in the MLP baseline (paper
    Table 15).
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
        self.kernel = nnx.Param(torch_linear(rngs.params(), (dim, hidden_dim), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (hidden_dim,), dim))

    def propagate(
        self,
        graph: TokenGraph,
        nodes: Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See GNNLayer.__call__; no neighbour is heard."""
        return project(nodes, self.kernel, self.dtype) + self.bias[...].astype(self.dtype)

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

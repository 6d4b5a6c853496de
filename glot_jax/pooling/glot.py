"""GLOT, and the MLP that stands in for it."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable

from flax import nnx
from jaxtyping import Array

from glot_jax.config.own_options import NO_OPTIONS, OwnOptions
from glot_jax.config.train import PoolerConfig
from glot_jax.errors import lookup
from glot_jax.graphs import TokenGraph
from glot_jax.pooling.gnn_layer import GNN_LAYERS, GNNLayer, LayerOptions
from glot_jax.pooling.layers import TokenLinear
from glot_jax.pooling.parameters import count_parameters
from glot_jax.pooling.pooler import POOLERS, Pooler
from glot_jax.pooling.readout import AttentionReadout, default_scorer_dim
from glot_jax.pooling.token_gnn import GNNDesign, TokenGNN
from glot_jax.pooling.work import StepWork

_WITHOUT_PARAMETERS = frozenset({"attention_dropout"})
"""Options of a layer that do not change how many parameters it has."""


@POOLERS.register("glot")
class Glot(Pooler):
    """GLOT (paper section 3.2, Algorithm 1).

    It is a Token-GNN over the token graph, jumping knowledge, and an attention readout.

    Args:
        dim: width of the graph's nodes (after the optional projection).
        hidden_dim: width of the GNN's layers.
        num_layers: K; 0 leaves the readout alone, which is AdaPool with another scorer width.
        gnn: layer type: a name of GNN_LAYERS (gat, gcn, gin, gine or sage), or a GNNLayer class.
        jk: "cat", "max", "mean" or "none", see TokenGNN.
        heads: option of the layer, see LayerOptions.
        edge_term: option of the layer, see LayerOptions.
        attention_dropout: option of the layer, see LayerOptions.
        own: options of the layer, see LayerOptions.
        residual: see TokenGNN; not in the paper.
        virtual_node: see TokenGNN; not in the paper.
        scorer_dim: width of the scorer; default max(128, width // 2), width = that of a refined
            token.
        dtype: arithmetic; parameters and softmaxes stay float32.
        rngs: with a `params` stream.

    Raises:
        UsageError: for unknown names and impossible combinations.
    """

    uses_edges = True
    reads = frozenset(
        {"gnn", "hidden_dim", "num_layers", "jk", "residual", "virtual_node", "scorer_dim"}
    )
    exportable = True

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 128,
        num_layers: int = 2,
        *,
        gnn: str | type[GNNLayer] = "gat",
        jk: str = "cat",
        heads: int = 1,
        edge_term: bool = False,
        attention_dropout: float = 0.0,
        residual: bool = False,
        virtual_node: bool = False,
        scorer_dim: int | None = None,
        own: OwnOptions = NO_OPTIONS,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        design = GNNDesign(
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            layer=layer_class(gnn),
            options=LayerOptions(
                heads,
                edge_term,
                attention_dropout,
                dtype,
                own,
            ),
            jk=jk,
            residual=residual,
            virtual_node=virtual_node,
        )
        self._build(dim, design, scorer_dim, rngs)

    def _build(
        self,
        dim: int,
        design: GNNDesign,
        scorer_dim: int | None,
        rngs: nnx.Rngs,
    ) -> None:
        # GNN first, readout second: the order in which keys are drawn is part of what a seed means.
        self.gnn = TokenGNN(dim, design, rngs=rngs)
        self.pooled_dim = sum(self.gnn.widths)
        self.tau: float | None = None
        """Threshold of the graphs it was trained on, where a loaded checkpoint came with one, for
        its user to read: a pooler gets a graph that is built already.
        """
        width = scorer_dim or default_scorer_dim(self.pooled_dim)
        dtype = design.options.dtype
        self.readout = AttentionReadout(
            self.gnn.widths,
            width,
            dtype=dtype,
            rngs=rngs,
        )

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> Glot:
        """See Pooler.from_config; options that the layer does not read are ignored."""
        # The same for encoders and decoders.
        del kind
        layer = layer_class(config.gnn)
        options = LayerOptions.from_config(config, layer)
        return cls(
            dim,
            config.hidden_dim,
            config.num_layers,
            gnn=layer,
            jk=config.jk,
            heads=options.heads,
            edge_term=options.edge_term,
            attention_dropout=options.attention_dropout,
            own=options.own,
            residual=config.residual,
            virtual_node=config.virtual_node,
            scorer_dim=config.scorer_dim,
            dtype=config.dtype,
            rngs=rngs,
        )

    @classmethod
    def fields_read(cls, config: PoolerConfig) -> frozenset[str]:
        """See Pooler.fields_read; without layers nothing of a layer is read."""
        if config.num_layers == 0:
            # An intersection: a subclass may read less than this class.
            return cls.reads & {"num_layers", "jk", "scorer_dim"}
        return cls.reads | layer_class(config.gnn).reads

    @classmethod
    def reads_edges(cls, config: PoolerConfig) -> bool:
        """See Pooler.reads_edges."""
        return cls.uses_edges and config.num_layers > 0

    def weights(self, graph: TokenGraph) -> Array:
        """See AttentionReadout.weights."""
        return self.readout.weights(graph, self.gnn(graph))

    def pool(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See Pooler.__call__."""
        refined = self.gnn(graph, train=train, rngs=rngs)
        return self.readout(graph, refined)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See Pooler.work."""
        self.gnn.work(work, frozen=frozen)
        # Of the parts only U_0 is frozen, which is one of them with jk="cat" and without layers.
        keeps_nodes = self.gnn.jk == "cat" or not self.gnn.layers
        others = len(self.gnn.widths) - 1
        is_frozen = [frozen and keeps_nodes, *[False] * others]
        self.readout.work(work, frozen=is_frozen)


@POOLERS.register("mlp")
class Mlp(Glot):
    """GLOT with an MLP in the GNN's place (paper Table 15).

    K, jumping knowledge and readout are the same, and there is no graph.

    From a config its width is the one that brings its parameters closest to those of the glot of
    the same config (without residual and virtual node). The task's head on top is not counted, and
    differs where the widths do.
    """

    uses_edges = False
    reads = Glot.reads - {"residual", "virtual_node"}
    matched: int | None = None
    """Parameters of the glot it stands in for."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 128,
        num_layers: int = 2,
        *,
        jk: str = "cat",
        scorer_dim: int | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        # No option but the dtype: TokenLinear has no neighbours to attend to.
        options = LayerOptions(dtype=dtype)
        design = GNNDesign(
            hidden_dim,
            num_layers,
            layer=TokenLinear,
            options=options,
            jk=jk,
        )
        self._build(dim, design, scorer_dim, rngs)

    @classmethod
    def fields_read(cls, config: PoolerConfig) -> frozenset[str]:
        """See Pooler.fields_read: it reads whatever decides the size of the glot it matches."""
        # So `gnn` and its options are among them, although no layer of theirs is built.
        return super().fields_read(config) - _WITHOUT_PARAMETERS

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> Mlp:
        """See Pooler.from_config."""
        like = dataclasses.replace(
            config,
            pooler="glot",
            residual=False,
            virtual_node=False,
        )

        def build_glot() -> Glot:
            return Glot.from_config(
                dim,
                like,
                kind=kind,
                rngs=nnx.Rngs(0),
            )

        # Shapes alone: the glot is counted, never built.
        glot = nnx.eval_shape(build_glot)
        # The scorer keeps the glot's width: what is matched is the GNN. Without "cat" it is sized
        # by hidden_dim even where there is no layer: checkpoints of older versions are.
        refined = glot.pooled_dim if config.jk == "cat" else config.hidden_dim
        scorer_dim = config.scorer_dim or default_scorer_dim(refined)

        def build(hidden_dim: int, rngs: nnx.Rngs) -> Mlp:
            return cls(
                dim,
                hidden_dim,
                config.num_layers,
                jk=config.jk,
                scorer_dim=scorer_dim,
                dtype=config.dtype,
                rngs=rngs,
            )

        def size(hidden_dim: int) -> int:
            # Keys of its own: the caller's stream is drawn from once, by the MLP that is built.
            shapes = nnx.eval_shape(lambda: build(hidden_dim, nnx.Rngs(0)))
            return count_parameters(shapes)

        matched = count_parameters(glot)
        # Without layers no width changes anything.
        widest = 1
        if config.num_layers:
            # No layer of this package has more than four times the parameters of a TokenLinear as
            # wide.
            widest = max(8, 4 * config.hidden_dim)
        width = _nearest(range(1, 1 + widest), matched, size)
        mlp = build(width, rngs)
        mlp.matched = matched
        return mlp


def _nearest(widths: range, size: int, size_of: Callable[[int], int]) -> int:
    """Return the width whose size is nearest to `size`; sizes grow with the width."""
    # Bisected, since a size is known only by tracing a whole module. Of the two widths around the
    # wanted size one is the nearest.
    above = bisect.bisect_left(widths, size, key=size_of)
    below = max(0, above - 1)
    around = widths[below : above + 1]
    return min(around, key=lambda width: abs(size_of(width) - size))


def layer_class(gnn: str | type[GNNLayer]) -> type[GNNLayer]:
    """Return a layer's class by its name in GNN_LAYERS; a class is returned as it is.

    Raises:
        UsageError: an unknown name.
    """
    if isinstance(gnn, str):
        return lookup(GNN_LAYERS, gnn, GNN_LAYERS.noun)
    return gnn

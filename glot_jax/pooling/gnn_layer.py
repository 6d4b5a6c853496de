"""`GNNLayer`: what every message-passing layer is, what it may be told, and the table of them."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.base import Config
from glot_jax.config.own_options import NO_OPTIONS, OwnOptions
from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import TokenGraph
from glot_jax.graphs.token_graph import require_token_graph
from glot_jax.pooling.work import StepWork
from glot_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """What a layer may be told beside its widths.

    A class reads the fields that it names in `reads`.
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
        ignored = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_read = field.name in ("dtype", "own") or field.name in layer.reads
            # A default is no request: nobody asked for what would be ignored.
            if not is_read and value != field.default:
                ignored.append(f"{field.name}={value}")
        if ignored:
            reads = ", ".join(sorted(layer.reads)) or "none"
            raise UsageError(
                rule=f"options of {layer.__name__} must be ones that it reads: {reads}",
                got=", ".join(ignored),
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
        # For the subclasses, which draw their parameters from it: this class has none.
        del rngs
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
        # A jraph tuple would fail somewhere inside, with a message about an attribute.
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

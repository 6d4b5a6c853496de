"""`Pooler`: what every pooler is, and the table of them."""

from __future__ import annotations

import abc
from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.base import Config
from glot_jax.config.train import PoolerConfig
from glot_jax.graphs import TokenGraph
from glot_jax.graphs.token_graph import require_token_graph
from glot_jax.pooling.work import StepWork
from glot_jax.registry import Registry


class Pooler(nnx.Module):
    """`pooler(graph) -> [batch, pooled_dim]` float32; a sentence without tokens is pooled to zeros.

    A pooler that is a weighted sum of the nodes defines `weights` alone; another one also defines
    `pool`, and `weights` then says how much each token counts. To be found by name it is
    registered: `@POOLERS.register("mine")`.
    """

    pooled_dim: int
    """Width of the result."""
    uses_edges: ClassVar[bool] = False
    """False: the graph's edges are never looked at, so none are computed."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Fields of PoolerConfig that it reads, beside those of every head (pooler, projection_dim,
    standardise, dropout, dtype).
    """
    own_options: ClassVar[type[Config] | None] = None
    """Settings that it brings along, read by `own_options.from_own(config.own)`: flags of
    `train.py` once its plugin is named.
    """
    exportable: ClassVar[bool] = False
    """Whether `glot export` has the same pooler in PyTorch (export/st_module.py)."""

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> Pooler:
        """Build it for states of width `dim`.

        Args:
            dim: width of the graph's nodes.
            config: sizes of its parts.
            kind: "encoder" or "decoder", which decides what `cls` means.
            rngs: with a `params` stream.

        Raises:
            UsageError: settings that do not fit together or to `dim`.
        """
        # A pooler with parameters or options overrides this; the others take their width alone.
        del config, kind, rngs
        return cls(dim)  # type: ignore[call-arg]

    @classmethod
    def fields_read(cls, config: PoolerConfig) -> frozenset[str]:
        """Return the PoolerConfig fields that it reads in this config.

        They are `reads`, unless one setting makes others meaningless.
        """
        del config
        return cls.reads

    @classmethod
    def reads_edges(cls, config: PoolerConfig) -> bool:
        """Tell whether it looks at the graph's edges in this config."""
        del config
        return cls.uses_edges

    @abc.abstractmethod
    def weights(self, graph: TokenGraph) -> Float[Array, "*nodes"]:
        """Return how much each token counts, in the graph's own layout; 0 at padding."""

    def pool(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch pooled"]:
        """Return the sentences' vectors; see `__call__`."""
        # Nothing here is dropped, nor normalised over a batch.
        del train, rngs
        weights = self.weights(graph)
        return graph.sentence_sum(graph.nodes, weights)

    def __call__(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch pooled"]:
        """Return one float32 vector per sentence.

        Args:
            graph: tokens, and edges where `uses_edges`.
            train: batch statistics and dropout.
            rngs: with a `dropout` stream, where something is dropped.

        Raises:
            UsageError: `graph` is not a TokenGraph.
        """
        # Here and not in `pool`: a pooler from outside is checked without doing anything for it.
        require_token_graph(graph, type(self).__name__)
        return self.pool(graph, train=train, rngs=rngs)

    def token_weights(self, graph: TokenGraph) -> Float[Array, "batch length"]:
        """Return how much each token counts, in the batch's layout; 0 at padding.

        Raises:
            UsageError: `graph` is not a TokenGraph.
        """
        require_token_graph(graph, type(self).__name__)
        weights = self.weights(graph)
        # Layouts are changed with a last axis, which is taken away again.
        padded = graph.to_padded(weights[..., None])
        return padded[..., 0]

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """Count its matmuls, products with single vectors left out; none unless it says so.

        Args:
            work: where to count.
            frozen: no gradient flows into the graph's nodes.
        """


POOLERS: Registry[type[Pooler]] = Registry("pooler (--pooler)")
"""Name -> pooler, the names that `--pooler` takes."""

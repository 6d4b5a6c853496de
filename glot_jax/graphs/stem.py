"""From a batch of stored states to a token graph, by one of several backends."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Shaped

from glot_jax.config import GraphConfig, lookup, require
from glot_jax.graphs.dense import dense_graph
from glot_jax.graphs.similarity import RULES
from glot_jax.graphs.sparse import sparse_graph
from glot_jax.graphs.token_graph import TokenGraph

BACKENDS: dict[str, Callable[..., TokenGraph]] = {"dense": dense_graph, "sparse": sparse_graph}


class Stem(nnx.Module):
    """States -> TokenGraph: the graph from raw states, then the features: cast, and projected if asked.

    The order matters: projecting first would change the graph. Without a projection nothing here is trained, so no
    gradient towards the frozen states exists or is computed.

    Args:
        dim: width of the stored states.
        config: rule, tau, backend and edge budget.
        projection_dim: width p of `U_0 = X W_in` (paper, "input projection"); None keeps the states.
        dtype: of the features.
    """

    def __init__(
        self, dim: int, *, config: GraphConfig, projection_dim: int | None = None, dtype: str = "float32", rngs: nnx.Rngs
    ):
        self.config = config
        self.rule = lookup(RULES, config.graph, "graph rule (--graph)")
        self.backend = lookup(BACKENDS, config.backend, "graph backend (--backend)")
        self.dtype = jnp.dtype(dtype)
        self.dim, self.node_dim = dim, projection_dim or dim
        self.projection = None if projection_dim is None else nnx.Linear(
            dim, projection_dim, use_bias=False, dtype=self.dtype, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs
        )

    def __call__(
        self, hidden: Shaped[Array, "batch length dim"], mask: Bool[Array, "batch length"],
        *, edge_budget: int | None = None, train: bool = False, rngs: nnx.Rngs | None = None,
    ) -> TokenGraph:
        """`hidden` as stored, `mask` True at real tokens. `edge_budget` wins over the config's (one per bucket)."""
        nodes = hidden.astype(self.dtype)
        if self.projection is not None:
            nodes = self.projection(nodes)
        budget = edge_budget or self.config.edge_budget
        return self.backend(hidden, mask, nodes, rule=self.rule, tau=self.config.tau, edge_budget=budget)


def token_graph(
    hidden: ArrayLike,
    mask: ArrayLike,
    tau: float = 0.6,
    *,
    backend: str = "dense",
    graph: str = "threshold",
    edge_budget: int | None = None,
) -> TokenGraph:
    """The token graph of a batch: an edge where cos(x_i, x_j) > tau (paper section 3.2), both tokens real.

    Args:
        hidden: token states [batch, length, dim], any float dtype; the cosine is taken from them as they are.
        mask: [batch, length] bool, True = real token.
        tau: threshold in [-1, 1].
        backend: "dense" or "sparse".
        graph: rule of the edges, a name of RULES.
        edge_budget: sparse only, edges the whole batch may hold.

    Raises:
        UsageError: for an unknown name, a tau outside [-1, 1], or shapes that do not fit.
    """
    hidden, mask = jnp.asarray(hidden), jnp.asarray(mask)
    require(
        hidden.ndim == 3 and mask.shape == hidden.shape[:2] and mask.dtype == bool,
        "token_graph takes hidden [batch, length, dim] and a boolean mask [batch, length]",
        f"hidden {hidden.shape}, mask {mask.shape} {mask.dtype}", "Use True at real tokens.",
    )
    config = GraphConfig(graph=graph, tau=tau, backend=backend, edge_budget=edge_budget)
    return Stem(hidden.shape[-1], config=config, dtype=_feature_dtype(hidden), rngs=nnx.Rngs(0))(hidden, mask)


def _feature_dtype(hidden: Array) -> str:
    return "float32" if hidden.dtype == jnp.float16 else str(hidden.dtype)

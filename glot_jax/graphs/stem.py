"""From a batch of stored states to a token graph, by one of several backends."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32, Shaped

from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError, lookup, require
from glot_jax.graphs.blockwise import blockwise_graph
from glot_jax.graphs.dense import dense_graph
from glot_jax.graphs.similarity import RULES, Options, count_edges, sentences_of, tokens_of
from glot_jax.graphs.sparse import sparse_graph
from glot_jax.graphs.token_graph import TokenGraph

BACKENDS: dict[str, Callable[..., TokenGraph]] = {
    "dense": dense_graph,
    "sparse": sparse_graph,
    "blockwise": blockwise_graph,
}
"""The three ways to compute one and the same graph."""

DENSE_PAIRS = 1 << 26
"""Pairs of tokens (texts x length²) of a batch up to which dense is taken: 4 texts of 4,096 tokens.
On two EPYC cores, 16,384 tokens a batch, dense's training step is 1.2 times as fast as blockwise's
at 2,048 tokens, and blockwise's 1.15 to 1.2 times as fast at 8,192, at dim 384, 768 and 4096
(benchmarks/head.py). On a Xeon an earlier blockwise was behind up to 8,192. Dense's memory here is
0.9 GB against 0.2 GB."""


def auto_graph(
    hidden: Array,
    mask: Array,
    nodes: Array,
    *,
    rule: Callable,
    options: Options,
    edge_budget: int | None = None,
    temperature: Array | None = None,
    stored: Array | None = None,
) -> TokenGraph:
    """The backend that fits this shape: sparse where a budget of edges was measured to be small
    enough (by the trainer, from the store's density), dense for short texts and soft edges,
    blockwise for long ones."""
    pairs = mask.shape[0] * mask.shape[1] ** 2
    backend = dense_graph if temperature is not None or pairs <= DENSE_PAIRS else blockwise_graph
    if edge_budget is not None and temperature is None:
        backend = sparse_graph
    return backend(
        hidden,
        mask,
        nodes,
        rule=rule,
        options=options,
        edge_budget=edge_budget,
        temperature=temperature,  # type: ignore[arg-type]
        stored=stored,
    )


SELECTABLE: dict[str, Callable[..., TokenGraph]] = {**BACKENDS, "auto": auto_graph}
"""What `--backend` may name."""


class Stem(nnx.Module):
    """States -> TokenGraph: mix layers, link the mixed states, then make the features the layers
    will see.

    - `mix`: several stored layers: `sum_l w_l h_l`, w a learned softmax, from equal weights on
    - `graph`: cosine of the (mixed) raw states, never differentiated towards them; standardising or
      projecting first would change who is linked
    - `standardise`: features only, `(h - mean) / deviation` per layer and dimension, before they
      are mixed
    - `dropout`: features only, in training
    - `project`: `U_0 = X W_in`

    With all optional parts off nothing here is trained, so no gradient towards the frozen states
    exists or is computed.

    Args:
        dim: width of the stored states.
        config: rule, its numbers, backend and edge budget.
        layers: how many stored layers a batch holds, if it has an axis of them; None: one layer and
            no axis.
        standardise: hold a mean and a deviation per dimension; 0 and 1 until `set_statistics`.
        dropout: share of the features' entries set to 0 in training.
        projection_dim: width p of `U_0 = X W_in` (paper, "input projection"); None keeps the
            states.
        dtype: of the features.
    """

    def __init__(
        self,
        dim: int,
        *,
        config: GraphConfig,
        layers: int | None = None,
        standardise: bool = False,
        dropout: float = 0.0,
        projection_dim: int | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.rule = lookup(RULES, config.graph, "graph rule (--graph)")
        self.backend = lookup(SELECTABLE, config.backend, "graph backend (--backend)")
        self.dtype, self.dropout = jnp.dtype(dtype), dropout
        self.dim, self.node_dim = dim, projection_dim or dim
        self.layer_scores = None if layers is None else nnx.Param(jnp.zeros(layers))
        shape = (dim,) if layers is None else (layers, dim)
        self.mean = nnx.BatchStat(jnp.zeros(shape)) if standardise else None
        self.deviation = nnx.BatchStat(jnp.ones(shape)) if standardise else None
        self.tau = nnx.Param(jnp.asarray(config.tau, jnp.float32)) if config.learn_tau else None
        self.projection = (
            None
            if projection_dim is None
            else nnx.Linear(
                dim,
                projection_dim,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=nnx.initializers.glorot_uniform(),
                rngs=rngs,
            )
        )

    def set_statistics(self, mean: ArrayLike, deviation: ArrayLike) -> None:
        """Mean and deviation per (layer and) dimension, of the training rows' tokens.

        A constant dimension is only centred.
        """
        if self.mean is None or self.deviation is None:
            raise UsageError(
                "only a standardising stem holds statistics",
                "standardise=False",
                "Build it with standardise=True.",
            )
        deviation = jnp.asarray(deviation, jnp.float32)
        self.mean[...] = jnp.asarray(mean, jnp.float32)
        self.deviation[...] = jnp.where(deviation > 0, deviation, 1)

    def layer_weights(self) -> Float[Array, " layers"] | None:
        """Softmax weights of the mixed layers, in the store's order."""
        return None if self.layer_scores is None else jax.nn.softmax(self.layer_scores[...])

    def mix(self, hidden: Shaped[Array, "*batch dim"]) -> Shaped[Array, "*mixed dim"]:
        """The layers axis weighted away, in float32; states without one as they are."""
        weights = self.layer_weights()
        return (
            hidden
            if weights is None
            else jnp.einsum(
                "...nd,n->...d",
                hidden.astype(jnp.float32),
                weights,
                precision=jax.lax.Precision.HIGHEST,  # edges hang on it
            )
        )

    def features(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Shaped[Array, "batch length width"]:
        """U_0, what the layers and the readout see."""
        if self.mean is not None and self.deviation is not None:
            hidden = (hidden.astype(jnp.float32) - self.mean[...]) / self.deviation[...]
        nodes = self.mix(hidden).astype(self.dtype)
        if train and self.dropout:
            nodes = nnx.Dropout(self.dropout)(nodes, deterministic=False, rngs=rngs)
        return nodes if self.projection is None else self.projection(nodes)

    def count_edges(
        self, hidden: Shaped[Array, "batch length *layers dim"], mask: Bool[Array, "batch length"]
    ) -> Int32[Array, " batch"]:
        """Edges of each sentence's graph, without building it: memory O(block), whatever the
        backend.
        """
        tokens = tokens_of(self.mix(hidden), mask)
        return count_edges(
            tokens,
            sentences_of(flat_layers(hidden), tokens, self.rule, self.options()),
            self.rule,
            self.options(),
        )

    def options(self) -> Options:
        return Options.of(self.config, None if self.tau is None else self.tau[...])

    def __call__(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        mask: Bool[Array, "batch length"],
        *,
        edge_budget: int | None = None,
        train: bool = False,
        progress: ArrayLike = 0.0,
        rngs: nnx.Rngs | None = None,
    ) -> TokenGraph:
        """The graph of a batch.

        Args:
            hidden: states as stored; mask: True at real tokens.
            edge_budget: wins over the config's (one per bucket).
            train: dropout, and soft edges where tau is learned.
            progress: share of the training steps done, in [0, 1]; anneals the temperature of soft
                edges.
            rngs: with a `dropout` stream, where something is dropped.
        """
        temperature = None
        if train and self.tau is not None:
            first, last = self.config.temperature
            temperature = first * (last / first) ** jnp.asarray(progress, jnp.float32)
        return self.backend(
            self.mix(hidden),
            mask,
            self.features(hidden, train=train, rngs=rngs),
            rule=self.rule,
            options=self.options(),
            edge_budget=edge_budget
            or (self.config.edge_budget if self.config.backend == "sparse" else None),
            temperature=temperature,
            stored=flat_layers(hidden),
        )


def flat_layers(
    hidden: Shaped[Array, "batch length *layers dim"],
) -> Shaped[Array, "batch length all"]:
    """States as stored, layers side by side: a text's identity, which no training changes."""
    return hidden.reshape(*hidden.shape[:2], -1)


def token_graph(
    hidden: ArrayLike,
    mask: ArrayLike,
    tau: float = 0.6,
    *,
    backend: str = "auto",
    graph: str = "threshold",
    k: int = 8,
    window: int = 4,
    graph_seed: int = 0,
    edge_budget: int | None = None,
) -> TokenGraph:
    """The token graph of a batch: an edge where cos(x_i, x_j) > tau (paper section 3.2), both
    tokens real.

    Args:
        hidden: token states [batch, length, dim], any float dtype; the cosine is taken from them as
            they are.
        mask: [batch, length] bool, True = real token.
        tau: threshold in [-1, 1].
        backend: "dense", "sparse", "blockwise", or "auto".
        graph: rule of the edges, a name of RULES.
        k, window, graph_seed: numbers of the rules knn, window and random.
        edge_budget: sparse only, edges the whole batch may hold.

    Raises:
        UsageError: for an unknown name, a tau outside [-1, 1], a k above the batch's length, or
            shapes that do not fit.
    """
    hidden, mask = jnp.asarray(hidden), jnp.asarray(mask)
    require(
        hidden.ndim == 3 and mask.shape == hidden.shape[:2] and mask.dtype == bool,
        "token_graph takes hidden [batch, length, dim] and a boolean mask [batch, length]",
        f"hidden {hidden.shape}, mask {mask.shape} {mask.dtype}",
        "Use True at real tokens.",
    )
    config = GraphConfig(
        graph=graph,
        tau=tau,
        k=k,
        window=window,
        graph_seed=graph_seed,
        backend=backend,
        edge_budget=edge_budget,
    )
    require_k_within(config, mask.shape[1])
    return Stem(hidden.shape[-1], config=config, dtype=_feature_dtype(hidden), rngs=nnx.Rngs(0))(
        hidden, mask
    )


def require_k_within(config: GraphConfig, length: int) -> None:
    """A k above the largest padded length would be the complete graph under another name; shorter
    texts link all they have.
    """
    require(
        config.graph != "knn" or config.k <= length,
        f"--k is at most the longest padded text, {length} tokens",
        config.k,
        f"Choose 1 to {length}, or --graph complete.",
    )


def _feature_dtype(hidden: Array) -> str:
    return "float32" if hidden.dtype == jnp.float16 else str(hidden.dtype)

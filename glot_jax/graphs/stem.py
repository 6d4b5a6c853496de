"""`Stem`: from a batch of stored states to a token graph, with everything that may be trained on
the way.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32, Shaped

from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.graphs.backends import SELECTABLE
from glot_jax.graphs.linking import Linking, count_edges
from glot_jax.graphs.rules import RULES, RuleOptions
from glot_jax.graphs.similarity import tokens_of
from glot_jax.graphs.token_graph import TokenGraph
from glot_jax.moved import moved_name


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
        self.dtype = jnp.dtype(dtype)
        self.dropout = dropout
        self.dim = dim
        self.node_dim = projection_dim or dim
        # Every attribute is assigned once: NNX takes one that starts as None for static.
        shape = (dim,) if layers is None else (layers, dim)
        self.layer_scores = None if layers is None else nnx.Param(jnp.zeros(layers))
        self.mean = nnx.BatchStat(jnp.zeros(shape)) if standardise else None
        self.deviation = nnx.BatchStat(jnp.ones(shape)) if standardise else None
        self.tau = nnx.Param(jnp.asarray(config.tau, jnp.float32)) if config.learn_tau else None
        projection = None
        if projection_dim is not None:
            projection = nnx.Linear(
                dim,
                projection_dim,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=nnx.initializers.glorot_uniform(),
                rngs=rngs,
            )
        self.projection = projection

    def set_statistics(self, mean: ArrayLike, deviation: ArrayLike) -> None:
        """Mean and deviation per (layer and) dimension, of the training rows' tokens.

        A constant dimension is only centred.
        """
        if self.mean is None or self.deviation is None:
            raise UsageError(
                rule="a stem must standardise to hold statistics",
                got="standardise=False",
                fix="Build it with standardise=True.",
            )
        # Dividing by the 0 of a constant dimension would make it NaN.
        deviation = jnp.asarray(deviation, jnp.float32)
        self.mean[...] = jnp.asarray(mean, jnp.float32)
        self.deviation[...] = jnp.where(deviation > 0, deviation, 1)

    def layer_weights(self) -> Float[Array, " layers"] | None:
        """Return the softmax weights of the mixed layers, in the store's order; None of one
        layer.
        """
        if self.layer_scores is None:
            return None
        return jax.nn.softmax(self.layer_scores[...])

    def mix(self, hidden: Shaped[Array, "*batch dim"]) -> Shaped[Array, "*mixed dim"]:
        """Weigh the layers axis away, in float32; states without one stay as they are."""
        weights = self.layer_weights()
        if weights is None:
            return hidden
        # At full precision, because edges depend on it: TensorFloat-32 would flip some.
        return jnp.einsum(
            "...nd,n->...d",
            hidden.astype(jnp.float32),
            weights,
            precision=jax.lax.Precision.HIGHEST,
        )

    def features(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Shaped[Array, "batch length width"]:
        """Return U_0, what the layers and the readout see."""
        if self.mean is not None and self.deviation is not None:
            hidden = (hidden.astype(jnp.float32) - self.mean[...]) / self.deviation[...]
        # Mixed first and rounded after: weights of layers are learned through float32.
        nodes = self.mix(hidden).astype(self.dtype)
        if train and self.dropout:
            nodes = nnx.Dropout(self.dropout)(nodes, deterministic=False, rngs=rngs)
        if self.projection is None:
            return nodes
        return self.projection(nodes)

    def count_edges(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        mask: Bool[Array, "batch length"],
    ) -> Int32[Array, " batch"]:
        """Count the edges of each sentence's graph without building it: memory O(block), whatever
        the backend.
        """
        linking = self.linking(hidden, mask)
        tokens = tokens_of(linking.hidden, mask)
        return count_edges(
            tokens,
            linking.sentences(tokens),
            linking.rule,
            linking.options,
        )

    def options(self) -> RuleOptions:
        """Return the numbers its rule reads, the trained tau among them."""
        tau = None if self.tau is None else self.tau[...]
        return RuleOptions.from_config(self.config, tau)

    def linking(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        mask: Bool[Array, "batch length"],
    ) -> Linking:
        """Return what decides the edges of a batch."""
        mixed = self.mix(hidden)
        return Linking(
            mixed,
            mask,
            flat_layers(hidden),
            self.rule,
            self.options(),
        )

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
        """Return the graph of a batch.

        Args:
            hidden: states as stored.
            mask: True at real tokens.
            edge_budget: wins over the config's (one per bucket).
            train: dropout, and soft edges where tau is learned.
            progress: share of the training steps done, in [0, 1]; anneals the temperature of soft
                edges.
            rngs: with a `dropout` stream, where something is dropped.
        """
        return self.backend(
            self.linking(hidden, mask),
            self.features(hidden, train=train, rngs=rngs),
            edge_budget=edge_budget or self._config_budget(),
            temperature=self._temperature(progress) if train else None,
        )

    def _config_budget(self) -> int | None:
        """Return the config's budget, which "auto" must not take for one measured to be small."""
        return self.config.edge_budget if self.config.backend == "sparse" else None

    def _temperature(self, progress: ArrayLike) -> Array | None:
        """Return the temperature of soft edges, annealed geometrically; None of hard ones."""
        if self.tau is None:
            return None
        first, last = self.config.temperature
        return first * (last / first) ** jnp.asarray(progress, jnp.float32)


def flat_layers(
    hidden: Shaped[Array, "batch length *layers dim"],
) -> Shaped[Array, "batch length all"]:
    """Lay the stored layers side by side: a text's identity, which no training changes."""
    return hidden.reshape(*hidden.shape[:2], -1)


_MOVED = {
    "BACKENDS": "graphs.backends",
    "DENSE_PAIRS": "graphs.backends",
    "SELECTABLE": "graphs.backends",
    "auto_graph": "graphs.backends",
    "require_k_within": "graphs.from_states",
    "token_graph": "graphs.from_states",
}
"""Name of 0.1 -> module of today."""


def __getattr__(name: str) -> object:
    """Answer for names that have moved, for one release."""
    return moved_name(__name__, name, _MOVED)

"""`Stem`: from a batch of stored states to a token graph.

It holds everything that may be trained on the way.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int32, Shaped

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.graphs.axes import match_rank
from glot_jax.graphs.backends import SELECTABLE
from glot_jax.graphs.controls import CONTROLS
from glot_jax.graphs.linking import Linking, count_edges
from glot_jax.graphs.rules import RULES, RuleOptions
from glot_jax.graphs.similarity import scale_of, tokens_of
from glot_jax.graphs.token_graph import TokenGraph
from glot_jax.moved import moved_name


class StemNumbers(NamedTuple):
    """Numbers of a stem that its program may be told, instead of being compiled for them.

    Runs that differ by nothing else then share a program.
    """

    tau: float | Array
    """Threshold of a cosine, where it is not learned."""
    kept: float | Array
    """Share of the features' entries that dropout keeps; read where the stem drops anything."""


class Stem(nnx.Module):
    """States -> TokenGraph.

    Tokens are chosen, stored layers are mixed, the mixed states are linked, then the features are
    made that the layers of the network will see.

    - `tokens`: those left out are padding to everything below
    - `mix`: several stored layers: `sum_l w_l h_l`, w a learned softmax, from equal weights on
    - `graph`: cosine of the (mixed) raw states, never differentiated towards them; standardising or
      projecting first would change who is linked
    - `graph_states`: what is linked instead of the raw states, `h - mean` or `(h - mean) /
      deviation` per layer and dimension, before they are mixed
    - `token_norm`: features only, every state scaled by itself, before they are standardised
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
        tokens: which tokens take part; default: all.
        token_norm: none, rms (mean square 1) or l2 (length 1).
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
        tokens: TokenChoice = EVERY_TOKEN,
        token_norm: str = "none",
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
        self.tokens = tokens
        self.token_norm = token_norm
        self.dropout = dropout
        self.dim = dim
        self.node_dim = projection_dim or dim
        # Every attribute is assigned once: NNX takes one that starts as None for static.
        shape = (dim,) if layers is None else (layers, dim)
        # Zeros are equal weights: training starts from the mean of the layers.
        layer_scores = None
        if layers is not None:
            layer_scores = nnx.Param(jnp.zeros(layers))
        self.layer_scores = layer_scores
        # Statistics and no parameters: no gradient moves them, and checkpoints keep them.
        self.mean = nnx.BatchStat(jnp.zeros(shape)) if standardise else None
        self.deviation = nnx.BatchStat(jnp.ones(shape)) if standardise else None
        centres = config.graph_states != "raw"
        scales = config.graph_states == "standardised"
        self.graph_mean = nnx.BatchStat(jnp.zeros(shape)) if centres else None
        self.graph_deviation = nnx.BatchStat(jnp.ones(shape)) if scales else None
        tau = None
        if config.learn_tau:
            tau = nnx.Param(jnp.asarray(config.tau, jnp.float32))
        self.tau = tau
        projection = None
        if projection_dim is not None:
            # Without a bias: the paper's projection is U_0 = X W_in.
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
        self.mean[...] = jnp.asarray(mean, jnp.float32)
        self.deviation[...] = _divisor(deviation)

    def set_graph_statistics(self, mean: ArrayLike, deviation: ArrayLike) -> None:
        """Mean and deviation per (layer and) dimension that are taken off before tokens are linked.

        They are of the training rows' tokens as they are stored.
        """
        if self.graph_mean is None:
            raise UsageError(
                rule="a stem must link centred or standardised states to hold their statistics",
                got="graph_states='raw'",
                fix="Build it with GraphConfig(graph_states='centred').",
            )
        self.graph_mean[...] = jnp.asarray(mean, jnp.float32)
        if self.graph_deviation is not None:
            self.graph_deviation[...] = _divisor(deviation)

    def layer_weights(self) -> Float[Array, " layers"] | None:
        """Return the softmax weights of the mixed layers, in the store's order.

        Without an axis of layers there are none: None.
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
        numbers: StemNumbers | None = None,
    ) -> Shaped[Array, "batch length width"]:
        """Return U_0, what the layers and the readout see."""
        if self.token_norm != "none":
            hidden = normalised(hidden, self.token_norm)
        if self.mean is not None and self.deviation is not None:
            # Per layer, so that a layer of large entries does not drown the others in the mix.
            exact = hidden.astype(jnp.float32)
            centred = exact - match_rank(self.mean[...], exact)
            hidden = centred / match_rank(self.deviation[...], exact)
        # Mixed first and rounded after: weights of layers are learned through float32.
        mixed = self.mix(hidden)
        nodes = mixed.astype(self.dtype)
        if train and self.dropout:
            # Of the features alone: edges are those of the whole states.
            kept = 1.0 - self.dropout if numbers is None else numbers.kept
            nodes = dropped(nodes, kept, rngs)
        if self.projection is None:
            return nodes
        return self.projection(nodes)

    def count_edges(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        mask: Bool[Array, "batch length"],
    ) -> Int32[Array, " batch"]:
        """Count the edges of each sentence's graph without building it.

        Memory is O(block), whatever the backend.
        """
        linking = self.linking(hidden, self.tokens(hidden, mask))
        tokens = tokens_of(linking.hidden, linking.mask)
        return count_edges(
            tokens,
            linking.sentences(tokens),
            linking.rule,
            linking.options,
        )

    def options(self, numbers: StemNumbers | None = None) -> RuleOptions:
        """Return the numbers its rule reads, the trained tau among them."""
        if self.tau is not None:
            return RuleOptions.from_config(self.config, self.tau[...])
        return RuleOptions.from_config(self.config, None if numbers is None else numbers.tau)

    def linking(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        mask: Bool[Array, "batch length"],
        numbers: StemNumbers | None = None,
    ) -> Linking:
        """Return what decides the edges of a batch; `mask` is that of the chosen tokens."""
        # Mixed but not standardised: who is linked is decided by the raw states, unless the rule
        # asks for others.
        mixed = self.mix(self._linked_states(hidden))
        return Linking(
            mixed,
            mask,
            stored=flat_layers(hidden),
            rule=self.rule,
            options=self.options(numbers),
            control=CONTROLS.get(self.config.control),
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
        numbers: StemNumbers | None = None,
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
            numbers: win over the stem's own.
        """
        chosen = self.tokens(hidden, mask)
        return self.linked(
            hidden,
            chosen,
            edge_budget=edge_budget,
            train=train,
            progress=progress,
            rngs=rngs,
            numbers=numbers,
        )

    def linked(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
        mask: Bool[Array, "batch length"],
        *,
        edge_budget: int | None = None,
        train: bool = False,
        progress: ArrayLike = 0.0,
        rngs: nnx.Rngs | None = None,
        numbers: StemNumbers | None = None,
    ) -> TokenGraph:
        """Return the graph of tokens that were chosen already: `mask` is theirs.

        The options are those of a call.
        """
        # Evaluation takes the hard edges of the tau that was learned.
        temperature = self._temperature(progress) if train else None
        return self.backend(
            self.linking(hidden, mask, numbers),
            self.features(hidden, train=train, rngs=rngs, numbers=numbers),
            edge_budget=edge_budget or self._config_budget(),
            temperature=temperature,
        )

    def _linked_states(
        self,
        hidden: Shaped[Array, "batch length *layers dim"],
    ) -> Shaped[Array, "batch length *layers dim"]:
        if self.graph_mean is None:
            return hidden
        exact = hidden.astype(jnp.float32)
        centred = exact - match_rank(self.graph_mean[...], exact)
        if self.graph_deviation is None:
            return centred
        return centred / match_rank(self.graph_deviation[...], exact)

    def _config_budget(self) -> int | None:
        """Return the config's budget, which "auto" must not take for one measured to be small."""
        return self.config.edge_budget if self.config.backend == "sparse" else None

    def _temperature(self, progress: ArrayLike) -> Array | None:
        """Return the temperature of soft edges, annealed geometrically; None of hard ones."""
        if self.tau is None:
            return None
        first, last = self.config.temperature
        ratio = last / first
        # Progress is an array, so that a new step is no new trace.
        return first * ratio ** jnp.asarray(progress, jnp.float32)


def _divisor(deviation: ArrayLike) -> Array:
    deviation = jnp.asarray(deviation, jnp.float32)
    # Dividing by the 0 of a constant dimension would make it NaN.
    return jnp.where(deviation > 0, deviation, 1)


def normalised(hidden: Array, norm: str) -> Array:
    """Scale every state to a mean square of 1 (rms) or to length 1 (l2), in float32.

    A state of zeros stays one.
    """
    exact = hidden.astype(jnp.float32)
    # By its largest entry first: its square need not be a float32 number.
    scaled = exact / scale_of(exact)
    square = jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)
    if norm == "rms":
        square = square / hidden.shape[-1]
    return jnp.where(square > 0, scaled * jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def dropped(nodes: Array, kept: ArrayLike, rngs: nnx.Rngs | None) -> Array:
    """Set entries to 0 and scale up the rest, with the digits of `nnx.Dropout`.

    Args:
        nodes: of any shape.
        kept: share of the entries that stay, in (0, 1]; it may be an array, where `nnx.Dropout`
            takes Python's numbers alone.
        rngs: with a `dropout` stream.
    """
    if rngs is None:
        raise UsageError(
            rule="what is dropped must be drawn",
            got="rngs=None",
            fix="Pass nnx.Rngs(dropout=seed), or train=False.",
        )
    # Drawn as `nnx.Dropout` draws, so that runs keep their digits.
    drawn = jax.random.bernoulli(rngs.dropout(), p=kept, shape=nodes.shape)
    # By a share of the states' own type: a float32 would widen them.
    scaled = nodes / jnp.asarray(kept, nodes.dtype)
    return jnp.where(drawn, scaled, jnp.zeros_like(nodes))


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

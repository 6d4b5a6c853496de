"""The rules that decide which tokens are linked (paper section 3.2, step 1), and their table.

A rule sees pairs of tokens and says which are edges. It never sees a backend: dense, blockwise and
sparse graphs ask the same rule about different blocks of the same pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, UInt32

from glot_jax.config.base import Config
from glot_jax.config.own_options import NO_OPTIONS, OwnOptions
from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError
from glot_jax.graphs.axes import Size
from glot_jax.graphs.hashing import hash_words, with_probability
from glot_jax.registry import Registry


class RuleOptions(NamedTuple):
    """The numbers that rules read."""

    tau: float | Array
    """A Python number, or a scalar that is trained or that a program is told."""
    k: int = 8
    window: int = 4
    seed: int = 0
    own: OwnOptions = NO_OPTIONS
    """Options that a plugin's rule brings, see Rule.own_options."""

    @classmethod
    def from_config(
        cls,
        config: GraphConfig,
        tau: float | Array | None = None,
    ) -> RuleOptions:
        """Take the numbers of a config; `tau` replaces its own."""
        threshold = config.tau if tau is None else tau
        return cls(
            threshold,
            config.k,
            config.window,
            config.graph_seed,
            config.own,
        )


class Sentences(NamedTuple):
    """What a rule with `reads_texts` knows of each sentence; zeros for the other rules."""

    fingerprint: UInt32[Array, "*batch"]
    """Hash of the text's stored states, the same in every batch."""
    density: Float[Array, "*batch"]
    """Share of the pairs i != j that the threshold rule links."""


class Pairs(NamedTuple):
    """What a rule may look at: `rows` receiving tokens i against all `length` sending tokens j.

    Both are tokens of one sentence. A field that a rule ignores costs nothing: the compiler drops
    what computes it.
    """

    similarity: Float[Array, "*batch rows length"]
    """cos(x_i, x_j), float32; 0 where either state is the zero vector."""
    diagonal: Bool[Array, "*batch rows length"]
    """i is j."""
    nonzero: Bool[Array, "*batch rows length"]
    """Neither x_i nor x_j is the zero vector."""
    real: Bool[Array, "*batch rows length"]
    """Neither i nor j is padding."""
    row_rank: Int32[Array, "*batch rows 1"]
    """Real tokens before i in its sentence."""
    column_rank: Int32[Array, "*batch 1 length"]
    """Real tokens before j in its sentence."""
    sentences: Sentences


Predicate = Callable[[Pairs, RuleOptions], Array]
"""Pairs and options -> bool [*batch, rows, length], True at an edge j -> i."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A predicate over pairs of tokens, and what it needs to know."""

    predicate: Predicate
    reads: frozenset[str]
    """Names of the GraphConfig fields that change its edges."""
    compares_states: bool = True
    """False: it looks at no similarity and at no zero vector, so none is computed."""
    reads_texts: bool = False
    """True: it looks at `Pairs.sentences`."""
    symmetric: bool = False
    """True: whoever is heard hears back, which a control of its edges then keeps."""
    own_options: type[Config] | None = None
    """Settings that it brings along, read by `own_options.from_own(options.own)`: flags of
    `train.py` once its plugin is named.
    """

    def __call__(
        self,
        pairs: Pairs,
        options: RuleOptions,
    ) -> Bool[Array, "*batch rows length"]:
        """Return the edges among `pairs`; those of padding tokens are dropped by the caller."""
        return self.predicate(pairs, options)


RULES: Registry[Rule] = Registry("graph rule (--graph)")
"""Name -> rule, the names that `--graph` takes."""


def rule(
    name: str,
    *reads: str,
    compares_states: bool = True,
    reads_texts: bool = False,
    symmetric: bool = False,
    own_options: type[Config] | None = None,
) -> Callable[[Predicate], Rule]:
    """Return a decorator that makes a rule of a predicate and registers it under `name`.

    Args:
        name: the name that `--graph` takes.
        reads: GraphConfig fields that change its edges; they enter as `RuleOptions`.
        compares_states: see Rule.
        reads_texts: see Rule.
        symmetric: see Rule.
        own_options: see Rule.
    """

    def make(predicate: Predicate) -> Rule:
        made = Rule(
            predicate,
            frozenset(reads),
            compares_states,
            reads_texts,
            symmetric,
            own_options,
        )
        # The module of the predicate: a Rule is an object of this one, wherever it is made.
        register = RULES.register(name, module=predicate.__module__)
        return register(made)

    return make


@rule("threshold", "tau", "tau_density", "learn_tau", "graph_states", symmetric=True)
def threshold(pairs: Pairs, options: RuleOptions) -> Array:
    """S_ij > tau, strictly.

    A non-zero token is linked to itself by definition, a zero vector to nothing.
    """
    alike = pairs.similarity > options.tau
    # By definition and not by its cosine, which may be computed as 0.9999994.
    linked = alike | pairs.diagonal
    # At tau = 1 there is no edge: a cosine rounded up to 1.0000001 must not pass. An array, since
    # a trained tau is not known while tracing.
    is_below_one = jnp.asarray(options.tau < 1)
    return linked & pairs.nonzero & is_below_one


@rule("knn", "k", "graph_states")
def nearest(pairs: Pairs, options: RuleOptions) -> Array:
    """The k most similar tokens, itself always among them, ties to the lower rank; not symmetric.

    A zero vector is linked to nothing.
    """
    possible = pairs.real & pairs.nonzero
    # No cosine reaches 2, so a token is always the first of its own neighbours.
    ranked = jnp.where(pairs.diagonal, 2.0, pairs.similarity)
    scores = jnp.where(possible, ranked, -jnp.inf)
    # The values and not the indices of `top_k`: edges by index would be scattered into the mask.
    k = _at_most(options.k, scores.shape[-1])
    best, _ = jax.lax.top_k(scores, k)
    least = best[..., -1:]
    above = scores > least
    tied = scores == least
    # Of the tokens tied at the last place, the first ones fill what room is left.
    taken = jnp.sum(above, axis=-1, keepdims=True)
    room = options.k - taken
    is_first = jnp.cumsum(tied, axis=-1) <= room
    chosen = above | (tied & is_first)
    # Where fewer than k are possible, the last place is held by what is not.
    return chosen & possible


def _at_most(k: int, length: Size) -> Size:
    """Return min(k, length), where `length` may be a symbolic dimension of jax.export."""
    try:
        return min(k, length)
    except jax.errors.InconclusiveDimensionOperation as error:
        raise UsageError(
            rule="with --graph knn an exported length must be known to be at least k",
            got=f"k={k}, length={length}",
            fix=f"Export with jax.export.symbolic_shape(..., constraints=['{length} >= {k}']).",
        ) from error


@rule("window", "window", compares_states=False, symmetric=True)
def window(pairs: Pairs, options: RuleOptions) -> Array:
    """Tokens at most `window` real tokens away: the order of words instead of their meaning."""
    # Larger windows than an int32 holds would wrap around, and no text is that long.
    largest = min(options.window, 2**31 - 1)
    # Ranks count real tokens, so padding in between does not push words apart.
    distance = jnp.abs(pairs.row_rank - pairs.column_rank)
    return distance <= largest


@rule("self", compares_states=False)
def self_only(pairs: Pairs, options: RuleOptions) -> Array:
    """Control: every token sees itself alone, so the graph adds nothing."""
    # Every rule is called with options; this one has none.
    del options
    return pairs.diagonal


@rule("complete", compares_states=False)
def complete(pairs: Pairs, options: RuleOptions) -> Array:
    """Control: every token sees every token of its sentence, so the similarities add nothing."""
    del options
    # Padding among them: what calls a rule drops its edges.
    return jnp.ones_like(pairs.diagonal)


@rule("random", "tau", "tau_density", "graph_seed", "graph_states", reads_texts=True)
def random_edges(pairs: Pairs, options: RuleOptions) -> Array:
    """Control: as many edges as the threshold rule's on average, where a seeded hash puts them.

    It is symmetric. The same text has the same edges in every batch, bucket and epoch: they depend
    on its states and not on where it stands.
    """
    # An unordered pair is hashed once, which makes the edges symmetric.
    low = jnp.minimum(pairs.row_rank, pairs.column_rank)
    high = jnp.maximum(pairs.row_rank, pairs.column_rank)
    text = pairs.sentences.fingerprint[..., None, None]
    density = pairs.sentences.density[..., None, None]
    hashed = hash_words(text, low, high, options.seed)
    chosen = with_probability(density, hashed)
    # The density is that of pairs of different tokens; loops are there whatever it is.
    return chosen | pairs.diagonal

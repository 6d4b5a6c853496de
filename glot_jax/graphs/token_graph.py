"""`TokenGraph`: what this stage hands on; `TokenBatch` comes in."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Literal

import jax
from jaxtyping import Array, Float

from glot_jax.errors import UsageError
from glot_jax.graphs.hashing import hash_words, with_probability

if TYPE_CHECKING:
    import jraph

Loops = Literal["as_is", "exactly_one"]


class TokenGraph(abc.ABC):
    """Tokens of a batch of sentences and who may listen to whom.

    A pytree; layers touch the last axis only.

    Leading axes belong to the backend, written `*nodes` below: `[batch, length, .]` in the dense
    backend, flat `[nodes, .]` in the sparse one. Padding nodes may hold any finite value; no
    sentence reduction reads them.

    - `nodes`: [*nodes, dim] features U_0: the states, or their projection
    - `node_mask`: [*nodes] True = a real token
    - `dropped_edges`: [] int32, edges a static budget had no room for: a result with any is wrong
    - `weight`: None, then all edges weigh 1; or, dense backend only, soft edges in (0, 1]: `sum`
      and `degree` multiply by them, `attend` adds their logarithm

    An edge j -> i lets i listen to j: `sum(values)[i] = sum over j in N(i) of values[j]`. Example,
    dense: sentence 0 has the tokens "a cat sat"; if "cat" and "sat" are alike, then N(1) = {1, 2}
    and `sum(values)[0, 1]` is `values[0, 1] + values[0, 2]`. With `loops="exactly_one"` every node
    is in its own neighbourhood exactly once, linked to itself or not; with "as_is" only where the
    rule says so.
    """

    nodes: Any
    node_mask: Any
    dropped_edges: Any
    weight: Any

    @abc.abstractmethod
    def degree(self, loops: Loops = "as_is") -> Float[Array, "*nodes 1"]:
        """In-degree |N(i)|."""

    @abc.abstractmethod
    def sum(
        self, values: Float[Array, "*nodes width"], loops: Loops = "as_is"
    ) -> Float[Array, "*nodes width"]:
        """Sum of the neighbours' values."""

    @abc.abstractmethod
    def mean(
        self, values: Float[Array, "*nodes width"], loops: Loops = "as_is"
    ) -> Float[Array, "*nodes width"]:
        """Mean of the neighbours' values; 0 for a node without neighbours."""

    @abc.abstractmethod
    def attend(
        self,
        source: Float[Array, "*nodes heads"],
        target: Float[Array, "*nodes heads"],
        values: Float[Array, "*nodes heads width"],
        bias: Float[Array, " heads"] | None = None,
        *,
        dropout: float = 0.0,
        key: Any = None,
    ) -> Float[Array, "*nodes heads width"]:
        """Graph attention: softmax over j in N(i), itself exactly once, of leaky_relu(source_j +
        target_i + bias, 0.2).

        `dropout` sets that share of the attention weights to 0 after the softmax and scales the
        rest up; which ones depends on `key` and on (sentence, i, j, head) alone, so it is the same
        on every backend.
        """

    @abc.abstractmethod
    def sentence_sum(
        self, values: Float[Array, "*nodes width"], weights: Float[Array, "*nodes"] | None = None
    ) -> Float[Array, "batch width"]:
        """Sum over a sentence's real tokens, each times its weight; 0 for a sentence of padding
        only.
        """

    @abc.abstractmethod
    def sentence_max(self, values: Float[Array, "*nodes width"]) -> Float[Array, "batch width"]:
        """Largest entry over a sentence's real tokens; 0 for a sentence of padding only."""

    @abc.abstractmethod
    def softmax(self, scores: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        """Softmax over a sentence's real tokens; 0 at padding, and all 0 in a sentence of padding
        only.
        """

    @abc.abstractmethod
    def dot(
        self, values: Float[Array, "*nodes width"], sentence: Float[Array, "batch heads width"]
    ) -> Float[Array, "*nodes heads"]:
        """Each token's product with vectors of its own sentence, float32."""

    @abc.abstractmethod
    def token(self, which: Literal["first", "last"]) -> Float[Array, "*nodes"]:
        """1 at every sentence's first or last real token, 0 elsewhere."""

    @abc.abstractmethod
    def spread(self, sentence: Float[Array, "batch width"]) -> Float[Array, "*nodes width"]:
        """Give every token its sentence's value."""

    @abc.abstractmethod
    def to_padded(self, values: Float[Array, "*nodes width"]) -> Float[Array, "batch length width"]:
        """Values in the batch's own layout, 0 at padding."""

    def counts(self) -> Float[Array, "batch 1"]:
        """Real tokens per sentence."""
        return self.sentence_sum(self.node_mask[..., None].astype("float32"))

    def to_jraph(self) -> jraph.GraphsTuple:
        """The graph as `jraph.GraphsTuple`; the sparse backend's own, padded one, or a dense
        graph's edges listed.
        """
        from glot_jax.graphs.sparse import to_jraph

        return to_jraph(self)


def dropout_seed(key: Array | None) -> Array:
    """Of one layer's dropped edges."""
    if key is None:
        raise UsageError(
            "dropout draws from a key", "none", "Pass rngs=nnx.Rngs(dropout=...) with train=True."
        )
    return jax.random.bits(key, (), jax.numpy.uint32)


def keep(dropout: float, seed: Array, *words: Array) -> Array:
    """0 with probability `dropout`, else 1 / (1 - dropout), by a hash of the seed and these
    integers.
    """
    return ~with_probability(dropout, hash_words(seed, *words)) * jax.numpy.float32(
        1 / (1 - dropout)
    )


def leaky_relu(values: Array) -> Array:
    """Slope 0.2 below zero, the constant of graph attention networks."""
    return jax.numpy.where(values >= 0, values, 0.2 * values)

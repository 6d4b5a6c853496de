"""`TokenGraph`: what this stage hands on; `TokenBatch` comes in."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from glot_jax.errors import UsageError
from glot_jax.graphs.flat import EdgeList

if TYPE_CHECKING:
    import jraph

Loops = Literal["as_is", "exactly_one"]


class TokenGraph(abc.ABC):
    """Tokens of a batch of sentences and who may listen to whom.

    A pytree; layers touch the last axis only.

    Leading axes belong to the backend, written `*nodes` below: `[batch, length, .]` in the dense
    and blockwise backends, flat `[nodes, .]` in the sparse one. Padding nodes may hold any finite
    value; no sentence reduction reads them.

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

    # Declared only: subclasses are dataclasses, and each narrows these to what it holds.
    nodes: Any
    node_mask: Any
    dropped_edges: Any
    weight: Any

    @property
    @abc.abstractmethod
    def rank(self) -> Int32[Array, "*nodes"]:
        """Real tokens before this one in its sentence; of no meaning at padding."""

    @abc.abstractmethod
    def degree(self, loops: Loops = "as_is") -> Float[Array, "*nodes 1"]:
        """Return the in-degree |N(i)|."""

    @abc.abstractmethod
    def sum(
        self,
        values: Float[Array, "*nodes width"],
        loops: Loops = "as_is",
    ) -> Float[Array, "*nodes width"]:
        """Add up the neighbours' values."""

    def mean(
        self,
        values: Float[Array, "*nodes width"],
        loops: Loops = "as_is",
    ) -> Float[Array, "*nodes width"]:
        """Average the neighbours' values; 0 for a node without neighbours."""
        degree = self.degree(loops)
        # The sum of no neighbours is 0 already.
        divisor = jnp.where(degree > 0, degree, 1)
        # In the values' dtype: float32 degrees would widen a bfloat16 result.
        divisor = divisor.astype(values.dtype)
        return self.sum(values, loops) / divisor

    @abc.abstractmethod
    def attend(
        self,
        source: Float[Array, "*nodes heads"],
        target: Float[Array, "*nodes heads"],
        values: Float[Array, "*nodes heads width"],
        bias: Float[Array, " heads"] | None = None,
        *,
        dropout: float = 0.0,
        key: Array | None = None,
    ) -> Float[Array, "*nodes heads width"]:
        """Average the neighbours' values by graph attention.

        The weights are a softmax over j in N(i), itself exactly once, of
        leaky_relu(source_j + target_i + bias, 0.2).

        `dropout` sets that share of the attention weights to 0 after the softmax and scales the
        rest up; which ones depends on `key` and on (sentence, i, j, head) alone, so it is the same
        on every backend.
        """

    @abc.abstractmethod
    def edge_list(self, budget: int | None = None) -> EdgeList:
        """List the edges, sentence by sentence.

        Args:
            budget: number of entries, a Python number; None: as many as there are edges, which only
                a graph outside of jax.jit can tell.

        Raises:
            UsageError: no budget for a traced graph.
        """

    @abc.abstractmethod
    def sentence_sum(
        self,
        values: Float[Array, "*nodes width"],
        weights: Float[Array, "*nodes"] | None = None,
    ) -> Float[Array, "batch width"]:
        """Add up a sentence's real tokens, each times its weight.

        It is 0 for a sentence of padding only.
        """

    @abc.abstractmethod
    def sentence_max(self, values: Float[Array, "*nodes width"]) -> Float[Array, "batch width"]:
        """Return the largest entry over a sentence's real tokens.

        It is 0 for a sentence of padding only.
        """

    @abc.abstractmethod
    def softmax(self, scores: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        """Take the softmax over a sentence's real tokens.

        It is 0 at padding, and all 0 in a sentence of padding only.
        """

    @abc.abstractmethod
    def dot(
        self,
        values: Float[Array, "*nodes width"],
        sentence: Float[Array, "batch heads width"],
    ) -> Float[Array, "*nodes heads"]:
        """Multiply each token with the vectors of its own sentence, in float32."""

    @abc.abstractmethod
    def token(self, which: Literal["first", "last"]) -> Float[Array, "*nodes"]:
        """Return 1 at every sentence's first or last real token, 0 elsewhere."""

    @abc.abstractmethod
    def spread(self, sentence: Float[Array, "batch width"]) -> Float[Array, "*nodes width"]:
        """Give every token its sentence's value."""

    @abc.abstractmethod
    def to_padded(self, values: Float[Array, "*nodes width"]) -> Float[Array, "batch length width"]:
        """Bring values into the batch's own layout, 0 at padding."""

    def counts(self) -> Float[Array, "batch 1"]:
        """Count the real tokens of each sentence."""
        # In float32, to be divided by; whole numbers are exact in it up to 2^24.
        ones = self.node_mask[..., None].astype("float32")
        return self.sentence_sum(ones)

    def to_jraph(self, edge_budget: int | None = None) -> jraph.GraphsTuple:
        """Return the graph for jraph's own layers, one jraph graph a sentence.

        Args:
            edge_budget: number of edges of the tuple, needed under jax.jit; see
                `glot_jax.graphs.jraph_graph.to_jraph`.

        Raises:
            UsageError: no edge_budget for a dense or blockwise graph under jax.jit.
        """
        convert = _jraph_conversions["to_jraph"]
        return convert(self, edge_budget)

    @staticmethod
    def from_jraph(
        graphs: jraph.GraphsTuple,
        *,
        padded: bool = False,
        length: int | None = None,
    ) -> TokenGraph:
        """Return a sparse graph that every pooler takes, of a tuple with one graph a sentence.

        Args:
            graphs: node features [nodes, dim], senders, receivers, n_node and n_edge.
            padded: the tuple ends in a padding graph, as `jraph.pad_with_graphs` leaves it.
            length: tokens of the longest sentence; needed under jax.jit.

        Raises:
            UsageError: a tuple whose parts do not fit together, or that holds what no token graph
                has.
        """
        convert = _jraph_conversions["from_jraph"]
        return convert(graphs, padded=padded, length=length)


# Filled by the import of glot_jax.graphs, before anybody can hold a graph.
_jraph_conversions: dict[Literal["to_jraph", "from_jraph"], Callable[..., Any]] = {}


def register_jraph_conversions(
    to_jraph: Callable[..., Any], from_jraph: Callable[..., TokenGraph]
) -> None:
    """Let TokenGraph's methods of these names call these functions.

    They stand in a module that is built on this one, so an import of them here would be a circle.
    """
    _jraph_conversions["to_jraph"] = to_jraph
    _jraph_conversions["from_jraph"] = from_jraph


def require_token_graph(graph: object, taker: str) -> None:
    """Refuse what is not a TokenGraph, on behalf of the module or function `taker`.

    Raises:
        UsageError: a jraph.GraphsTuple, an array, or anything else.
    """
    if not isinstance(graph, TokenGraph):
        raise UsageError(
            rule=f"{taker} must be given a TokenGraph",
            got=type(graph).__name__,
            fix="token_graph(hidden, mask) makes one of states, TokenGraph.from_jraph(graphs) of a "
            "jraph.GraphsTuple with one graph per sentence.",
        )

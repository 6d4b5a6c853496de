"""AdaPool and AdaPool by attention: poolers that learn to weigh the states themselves."""

from __future__ import annotations

import functools
import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.checks import require_divisor
from glot_jax.config.train import PoolerConfig
from glot_jax.graphs import TokenGraph
from glot_jax.pooling.init import glorot_param
from glot_jax.pooling.pooler import POOLERS, Pooler
from glot_jax.pooling.readout import AttentionReadout
from glot_jax.pooling.work import StepWork

ADAPOOL_SCORER_DIM = 128
"""Width of AdaPool's scorer in the release's commands (paper: 512 at dim 4096)."""


@POOLERS.register("adapool")
class AdaPool(Pooler):
    """A two-layer tanh scorer and softmax over the states themselves.

    It is the paper's learned baseline.
    """

    reads = frozenset({"scorer_dim"})
    exportable = True

    def __init__(
        self,
        dim: int,
        scorer_dim: int = ADAPOOL_SCORER_DIM,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.pooled_dim = dim
        self.readout = AttentionReadout(
            [dim],
            scorer_dim,
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
    ) -> AdaPool:
        """See Pooler.from_config."""
        # The same for encoders and decoders.
        del kind
        return cls(
            dim,
            config.scorer_dim or ADAPOOL_SCORER_DIM,
            dtype=config.dtype,
            rngs=rngs,
        )

    def weights(self, graph: TokenGraph) -> Array:
        """See AttentionReadout.weights."""
        # GLOT's readout with one part, the states: no layer has refined them.
        return self.readout.weights(graph, [graph.nodes])

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See Pooler.work."""
        self.readout.work(work, frozen=[frozen])


@POOLERS.register("adapool-attention")
class AdaPoolAttention(Pooler):
    """Adaptive pooling by one attention query (Brothers 2025).

    The sentence's mean asks, every token answers.

    `q = W_q mean_i x_i`, `pi^h = softmax_i(q^h . W_k^h x_i / sqrt(dim))` for each of `heads` heads
    of width dim / heads, `z = W_o [sum_i pi_i^h W_v^h x_i]_h`; no biases and no residual. W_k and
    W_v are moved to the other side of their sums, which changes no number: keys and values of
    single tokens are never built, nor a gradient towards the states.
    """

    reads = frozenset({"heads"})
    exportable = True

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        require_divisor(heads, dim, "the width of the states")
        self.pooled_dim = dim
        self.heads = heads
        self.dtype = jnp.dtype(dtype)
        self.query = glorot_param(rngs, (dim, dim))
        self.key = glorot_param(rngs, (dim, dim))
        self.value = glorot_param(rngs, (dim, dim))
        self.out = glorot_param(rngs, (dim, dim))

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> AdaPoolAttention:
        """See Pooler.from_config."""
        # The same for encoders and decoders.
        del kind
        return cls(
            dim,
            config.heads,
            dtype=config.dtype,
            rngs=rngs,
        )

    def _split(self, kernel: nnx.Param) -> Float[Array, "dim heads width"]:
        return kernel[...].reshape(self.pooled_dim, self.heads, -1)

    def head_weights(self, graph: TokenGraph) -> list[Float[Array, "*nodes"]]:
        """Return pi of each head, float32."""
        # At least 1: a sentence of padding has no token to divide by.
        counts = jnp.maximum(graph.counts(), 1)
        mean = graph.sentence_sum(graph.nodes) / counts
        width = self.pooled_dim // self.heads
        query = mean @ self.query[...]
        query = query.reshape(-1, self.heads, width)
        # q . (W_k x) = (W_k^T q) . x: one product per sentence instead of one per token.
        towards = jnp.einsum("bhw,dhw->bhd", query, self._split(self.key))
        # By the width of all heads together, as in the paper; PMA divides by that of one.
        towards = towards / math.sqrt(self.pooled_dim)
        towards = towards.astype(self.dtype)
        scores = graph.dot(graph.nodes, towards)
        return [graph.softmax(scores[..., head]) for head in range(self.heads)]

    def weights(self, graph: TokenGraph) -> Array:
        """The heads' mean."""
        # Not what `pool` adds up by: there every head has weights and values of its own.
        weights = self.head_weights(graph)
        total = functools.reduce(jnp.add, weights, 0)
        return jnp.asarray(total / self.heads)

    def pool(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See Pooler.__call__."""
        # Nothing here is dropped, nor normalised over a batch.
        del train, rngs
        # States are added up before W_v: one product a sentence, none per token.
        shares = self.head_weights(graph)
        heard = [graph.sentence_sum(graph.nodes, share) for share in shares]
        by_head = jnp.stack(heard, axis=1)
        values = jnp.einsum("bhd,dhw->bhw", by_head, self._split(self.value))
        joined = values.reshape(values.shape[0], -1)
        return joined @ self.out[...]

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See Pooler.work."""
        dim = self.pooled_dim
        # Per text: W_q of a mean of the states, then W_k, W_v and W_o of what is trained already.
        work.linear_per_text(dim, dim, frozen=frozen)
        for _ in ("key", "value", "out"):
            work.linear_per_text(dim, dim)
        # Per token and head: one product to ask, one to add up, and their ways back.
        passes = 2
        if work.train:
            # Each has a way back to the query or the weights, and one to the states if they learn.
            passes = 4 if frozen else 6
        work.add(passes * 2 * work.tokens * dim * self.heads)

"""Pooling by multihead attention: learned seeds ask, the tokens answer (Set Transformer)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.checks import require_divisor
from glot_jax.config.train import PoolerConfig
from glot_jax.graphs import TokenGraph
from glot_jax.graphs.axes import match_rank
from glot_jax.pooling.init import glorot_param, linear_param
from glot_jax.pooling.pooler import POOLERS, Pooler
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork

DEFAULT_SEEDS = 1


@POOLERS.register("pma")
class PMA(Pooler):
    """Pooling by Multihead Attention (Set Transformer).

    Lee et al. 2019, arXiv 1810.00825, section 3.2: `PMA(X) = MAB(S, rFF(X))` with k learned seeds
    S [k, dim].

    - `Y = relu(X W_f + b_f)`, every token by itself
    - `A = Multihead(S, Y, Y)`: per head of width dim / heads, `pi_s = softmax_i(q_s . k_i /
      sqrt(width))`, `sum_i pi_si v_i`; heads concatenated, then `W_o` and `b_o`
    - `H = LayerNorm(S + A)`, `Z = LayerNorm(H + relu(H W_h + b_h))`

    The result is Z [k, dim], its rows side by side. The numbers are those of PyTorch Geometric's
    `PoolingByMultiheadAttention`. Keys have no bias: it would move all scores of a query alike,
    which no softmax sees. Keys and values of single tokens are never built: W_k is moved to the
    seeds' side and W_v behind the sum, which changes no number.

    Args:
        dim: width of the graph's nodes.
        heads: attention heads; they must divide dim.
        seeds: number k of seeds; pooled_dim is k·dim.
        dtype: arithmetic of what is done per token; the rest is float32.
        rngs: with a `params` stream.

    Raises:
        UsageError: heads that do not divide dim.
    """

    reads = frozenset({"heads", "num_latents"})

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        seeds: int = DEFAULT_SEEDS,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        require_divisor(heads, dim, "the width of the states")
        self.pooled_dim = seeds * dim
        self.dim = dim
        self.heads = heads
        self.dtype = jnp.dtype(dtype)
        square = (dim, dim)
        self.seeds = glorot_param(rngs, (seeds, dim))
        self.token_kernel = linear_param(rngs, square, dim)
        self.token_bias = linear_param(rngs, (dim,), dim)
        self.query = glorot_param(rngs, square)
        self.query_bias = nnx.Param(jnp.zeros(dim))
        self.key = glorot_param(rngs, square)
        self.value = glorot_param(rngs, square)
        self.value_bias = nnx.Param(jnp.zeros(dim))
        self.out = linear_param(rngs, square, dim)
        self.out_bias = nnx.Param(jnp.zeros(dim))
        self.attention_norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)
        self.hidden_kernel = linear_param(rngs, square, dim)
        self.hidden_bias = linear_param(rngs, (dim,), dim)
        self.out_norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> PMA:
        """See Pooler.from_config."""
        # The same for encoders and decoders.
        del kind
        # None is this pooler's own default: LatentAttention reads the same field, and has another.
        seeds = config.num_latents or DEFAULT_SEEDS
        return cls(
            dim,
            config.heads,
            seeds,
            dtype=config.dtype,
            rngs=rngs,
        )

    def _split(self, kernel: nnx.Param) -> Float[Array, "dim heads width"]:
        return kernel[...].reshape(self.dim, self.heads, -1)

    def _answers(self, graph: TokenGraph) -> Float[Array, "*nodes dim"]:
        """Return Y."""
        values = project(graph.nodes, self.token_kernel, self.dtype)
        bias = self.token_bias[...].astype(self.dtype)
        return jax.nn.relu(values + match_rank(bias, values))

    def _seed_weights(
        self,
        graph: TokenGraph,
        answers: Float[Array, "*nodes dim"],
    ) -> list[Float[Array, "*nodes"]]:
        """Return pi of each seed and head, seed by seed, float32."""
        query = self.seeds[...] @ self.query[...]
        query = query + match_rank(self.query_bias[...], query)
        width = self.dim // self.heads
        query = query.reshape(-1, self.heads, width)
        # q . (W_k y) = (W_k^T q) . y: one product for all texts, since seeds belong to none.
        towards = jnp.einsum("shw,dhw->dsh", query, self._split(self.key))
        towards = towards / math.sqrt(width)
        scores = project(
            answers,
            towards.reshape(self.dim, -1),
            self.dtype,
            jnp.float32,
        )
        return [graph.softmax(scores[..., column]) for column in range(scores.shape[-1])]

    def weights(self, graph: TokenGraph) -> Array:
        """The mean over seeds and heads."""
        answers = self._answers(graph)
        weights = self._seed_weights(graph, answers)
        return jnp.mean(jnp.stack(weights), axis=0)

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
        answers = self._answers(graph)
        weights = self._seed_weights(graph, answers)
        # Seeds and heads are columns: each has a distribution over the tokens of its own.
        columns = [graph.sentence_sum(answers, share) for share in weights]
        sums = jnp.stack(columns, axis=1)
        seeds = self.seeds.shape[0]
        sums = sums.reshape(-1, seeds, self.heads, self.dim)
        values = jnp.einsum("bshd,dhw->bshw", sums, self._split(self.value))
        values = values.reshape(-1, seeds, self.dim)
        # Behind the sum, because the weights of a seed and head add up to 1.
        values = values + match_rank(self.value_bias[...], values)
        # From here on everything is per sentence, and float32.
        attended = values @ self.out[...]
        attended = attended + match_rank(self.out_bias[...], attended)
        seeded = match_rank(self.seeds[...], attended) + attended
        hidden = self.attention_norm(seeded)
        product = hidden @ self.hidden_kernel[...]
        refined = jax.nn.relu(product + match_rank(self.hidden_bias[...], product))
        pooled = self.out_norm(hidden + refined)
        pooled = pooled.reshape(-1, self.pooled_dim)
        # The seeds speak even where nobody answers: a sentence without tokens is zeros all the
        # same.
        has_tokens = graph.counts() > 0
        return jnp.where(has_tokens, pooled, 0)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See Pooler.work."""
        seeds = self.seeds.shape[0]
        columns = seeds * self.heads
        # The answers; behind them everything depends on what is trained.
        work.linear(self.dim, self.dim, frozen=frozen)
        # Per token, seed and head: one product to ask, one to add up, and their ways back.
        passes = 6 if work.train else 2
        work.add(passes * 2 * work.tokens * self.dim * columns)
        # W_v of each seed and head.
        width = self.dim // self.heads
        for _ in range(columns):
            work.linear_per_text(self.dim, width)
        # W_o and W_h of each seed.
        for _ in range(2 * seeds):
            work.linear_per_text(self.dim, self.dim)

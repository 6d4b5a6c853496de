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
from glot_jax.pooling.init import glorot, torch_linear
from glot_jax.pooling.pooler import POOLERS, Pooler
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork

DEFAULT_SEEDS = 1


@POOLERS.register("pma")
class PMA(Pooler):
    """Pooling by Multihead Attention (Lee et al. 2019, Set Transformer, arXiv 1810.00825, section
    3.2): `PMA(X) = MAB(S, rFF(X))` with k learned seeds S [k, dim].

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
        self.seeds = nnx.Param(glorot(rngs.params(), (seeds, dim)))
        self.token_kernel = nnx.Param(torch_linear(rngs.params(), square, dim))
        self.token_bias = nnx.Param(torch_linear(rngs.params(), (dim,), dim))
        self.query = nnx.Param(glorot(rngs.params(), square))
        self.query_bias = nnx.Param(jnp.zeros(dim))
        self.key = nnx.Param(glorot(rngs.params(), square))
        self.value = nnx.Param(glorot(rngs.params(), square))
        self.value_bias = nnx.Param(jnp.zeros(dim))
        self.out = nnx.Param(torch_linear(rngs.params(), square, dim))
        self.out_bias = nnx.Param(jnp.zeros(dim))
        self.attention_norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)
        self.hidden_kernel = nnx.Param(torch_linear(rngs.params(), square, dim))
        self.hidden_bias = nnx.Param(torch_linear(rngs.params(), (dim,), dim))
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
        return jax.nn.relu(values + self.token_bias[...].astype(self.dtype))

    def _seed_weights(
        self,
        graph: TokenGraph,
        answers: Float[Array, "*nodes dim"],
    ) -> list[Float[Array, "*nodes"]]:
        """Return pi of each seed and head, seed by seed, float32."""
        query = self.seeds[...] @ self.query[...] + self.query_bias[...]
        width = self.dim // self.heads
        query = query.reshape(-1, self.heads, width)
        towards = jnp.einsum("shw,dhw->dsh", query, self._split(self.key)) / math.sqrt(width)
        scores = project(
            answers,
            towards.reshape(self.dim, -1),
            self.dtype,
            jnp.float32,
        )
        return [graph.softmax(scores[..., column]) for column in range(scores.shape[-1])]

    def weights(self, graph: TokenGraph) -> Array:
        """The mean over seeds and heads."""
        weights = self._seed_weights(graph, self._answers(graph))
        return jnp.mean(jnp.stack(weights), axis=0)

    def pool(
        self,
        graph: TokenGraph,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """See Pooler.__call__."""
        answers = self._answers(graph)
        weights = self._seed_weights(graph, answers)
        # Seeds and heads are columns: each has a distribution over the tokens of its own.
        sums = jnp.stack([graph.sentence_sum(answers, share) for share in weights], axis=1)
        seeds = self.seeds.shape[0]
        sums = sums.reshape(-1, seeds, self.heads, self.dim)
        values = jnp.einsum("bshd,dhw->bshw", sums, self._split(self.value))
        values = values.reshape(-1, seeds, self.dim) + self.value_bias[...]
        # From here on everything is per sentence, and float32.
        attended = values @ self.out[...] + self.out_bias[...]
        hidden = self.attention_norm(self.seeds[...] + attended)
        refined = jax.nn.relu(hidden @ self.hidden_kernel[...] + self.hidden_bias[...])
        pooled = self.out_norm(hidden + refined).reshape(-1, self.pooled_dim)
        # The seeds speak even where nobody answers: a sentence without tokens is zeros all the
        # same.
        return jnp.where(graph.counts() > 0, pooled, 0)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See Pooler.work."""
        columns = self.seeds.shape[0] * self.heads
        work.linear(self.dim, self.dim, frozen=frozen)
        # Per token, seed and head: one product to ask, one to add up, and their ways back.
        passes = 6 if work.train else 2
        work.add(passes * 2 * work.tokens * self.dim * columns)
        for _ in range(columns):
            work.linear_per_text(self.dim, self.dim // self.heads)
        for _ in range(2 * self.seeds.shape[0]):
            work.linear_per_text(self.dim, self.dim)

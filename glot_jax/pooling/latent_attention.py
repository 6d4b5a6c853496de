"""Latent attention: the tokens ask a trained array of latents (NV-Embed)."""

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
from glot_jax.pooling.init import linear_param, uniform
from glot_jax.pooling.pooler import POOLERS, Pooler
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork

DEFAULT_LATENTS = 512
"""Number of latents in NV-Embed, whose layer has 8 heads."""


@POOLERS.register("latent-attention")
class LatentAttention(Pooler):
    """Latent attention layer and mean pooling (NV-Embed).

    Lee et al. 2024, arXiv 2405.17428, section 3.1:

    - `O = softmax(Q K^T) V`: the queries are the token states, keys and values both the latent
      array L [r, dim]; per head of width dim / heads, scores divided by sqrt(width), heads
      concatenated
    - `Y = gelu(O W_1 + b_1) W_2 + b_2`, every token by itself
    - `z = mean_i y_i` over real tokens

    These are the paper's equations; its released code puts projections, layer norms and residual
    connections around them. W_2 stands behind the mean, which changes no number.

    Args:
        dim: width of the graph's nodes.
        heads: attention heads; they must divide dim.
        latents: number r of latents.
        hidden_dim: width of the MLP.
        dtype: arithmetic; the softmax stays float32.
        rngs: with a `params` stream.

    Raises:
        UsageError: heads that do not divide dim.
    """

    reads = frozenset({"heads", "hidden_dim", "num_latents"})

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        latents: int = DEFAULT_LATENTS,
        hidden_dim: int = 128,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        require_divisor(heads, dim, "the width of the states")
        self.pooled_dim = dim
        self.heads = heads
        self.dtype = jnp.dtype(dtype)
        self.latents = nnx.Param(uniform(rngs.params(), (latents, dim), 1.0))
        self.kernel = linear_param(rngs, (dim, hidden_dim), dim)
        self.bias = linear_param(rngs, (hidden_dim,), dim)
        self.out_kernel = linear_param(rngs, (hidden_dim, dim), hidden_dim)
        self.out_bias = linear_param(rngs, (dim,), hidden_dim)

    @classmethod
    def from_config(
        cls,
        dim: int,
        config: PoolerConfig,
        *,
        kind: str,
        rngs: nnx.Rngs,
    ) -> LatentAttention:
        """See Pooler.from_config."""
        # The same for encoders and decoders.
        del kind
        # None is this pooler's own default: PMA reads the same field, and has another.
        latents = config.num_latents or DEFAULT_LATENTS
        return cls(
            dim,
            config.heads,
            latents,
            config.hidden_dim,
            dtype=config.dtype,
            rngs=rngs,
        )

    def _attend(self, nodes: Float[Array, "*nodes dim"]) -> Float[Array, "*nodes dim"]:
        """Return O."""
        width = self.pooled_dim // self.heads
        latents = self.latents[...].reshape(-1, self.heads, width)
        latents = latents.astype(self.dtype)
        # Scaled before the product: behind it, the compiler may fuse the division with the
        # subtraction in the softmax, whose rounding overflows for huge states.
        nodes_shape = nodes.shape[:-1]
        queries = nodes.reshape(*nodes_shape, self.heads, width)
        queries = queries / math.sqrt(width)
        scores = jnp.einsum(
            "...hw,rhw->...hr",
            queries,
            latents,
            preferred_element_type=jnp.float32,
        )
        # Over the latents, not over the tokens: no token sees another one before the mean.
        weights = jax.nn.softmax(scores, axis=-1)
        heads = jnp.einsum("...hr,rhw->...hw", weights.astype(self.dtype), latents)
        return heads.reshape(nodes.shape)

    def weights(self, graph: TokenGraph) -> Array:
        """1 / n: the tokens' outputs are averaged."""
        # A softmax of equal scores is 1 / n, and 0 at padding and in a sentence of it.
        equal = jnp.zeros_like(graph.node_mask, jnp.float32)
        return graph.softmax(equal)

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
        attended = self._attend(graph.nodes)
        hidden = project(attended, self.kernel, self.dtype)
        bias = self.bias[...].astype(self.dtype)
        hidden = hidden + match_rank(bias, hidden)
        # The exact gelu, as torch.nn.GELU is by default.
        hidden = jax.nn.gelu(hidden, approximate=False)
        weights = self.weights(graph)
        mean = graph.sentence_sum(hidden, weights)
        # W_2 behind the mean: one product a sentence instead of one a token.
        product = mean @ self.out_kernel[...]
        pooled = product + match_rank(self.out_bias[...], product)
        # Without tokens the mean is 0 and its bias is not: a sentence of padding is zeros.
        has_tokens = graph.counts() > 0
        return jnp.where(has_tokens, pooled, 0)

    def work(self, work: StepWork, *, frozen: bool) -> None:
        """See Pooler.work."""
        latents, dim = self.latents.shape
        hidden_dim = self.bias.shape[0]
        # Queries and keys: one product, one back to the latents, one to the states if they learn.
        work.linear(dim, latents, frozen=frozen)
        # Weights and values, and the MLP's first product; both of what depends on the latents.
        work.linear(latents, dim)
        work.linear(dim, hidden_dim)
        work.linear_per_text(hidden_dim, dim)

"""What stands on top of the pooled vectors: a classifier, a regression, the cosine of two projected
vectors, or those of a batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import require
from glot_jax.pooling.init import torch_linear


class Linear(nnx.Module):
    """`x W + b` in float32, initialised as torch.nn.Linear; heads are too small for another dtype
    to matter.
    """

    def __init__(self, dim: int, out: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(torch_linear(rngs.params(), (dim, out), dim))
        self.bias = nnx.Param(torch_linear(rngs.params(), (out,), dim))

    def __call__(self, values: Float[Array, "batch dim"]) -> Float[Array, "batch out"]:
        return values @ self.kernel[...] + self.bias[...]


def pair_features(
    vectors: Float[Array, "roles batch dim"], features: str
) -> Float[Array, "batch width"]:
    """A row's text vectors as one:

    `concat` [a; b; ...]; `interaction` [a; b; |a-b|; a*b], of two texts.
    """
    parts = list(vectors)
    if features == "interaction" and len(parts) == 2:
        a, b = parts
        parts += [jnp.abs(a - b), a * b]
    return jnp.concatenate(parts, axis=-1)


class FeatureHead(nnx.Module):
    """Linear scores from the features of one or more texts (`softmax(W [z_a ; z_b] + b)`).

    Regression has one output. `interaction` needs exactly two texts, of one text there is nothing
    to interact.
    """

    def __init__(
        self, pooled_dim: int, roles: int, out: int, *, features: str = "concat", rngs: nnx.Rngs
    ):
        require(
            features == "concat" or roles <= 2,
            "--pair-features interaction is defined for two texts a row",
            roles,
            "Use --pair-features concat.",
        )
        copies = 4 if features == "interaction" and roles == 2 else roles
        self.features = features
        self.linear = Linear(pooled_dim * copies, out, rngs=rngs)

    def __call__(self, vectors: Float[Array, "roles batch dim"]) -> Float[Array, "batch out"]:
        return self.linear(pair_features(vectors, self.features))


class CosineHead(nnx.Module):
    """`cos(P z_a, P z_b)` with one trained P for both texts (STS-B)."""

    def __init__(self, pooled_dim: int, *, rngs: nnx.Rngs):
        self.projection = Linear(pooled_dim, pooled_dim, rngs=rngs)

    def __call__(self, vectors: Float[Array, "roles batch dim"]) -> Float[Array, "batch 1"]:
        a, b = self.projection(vectors[0]), self.projection(vectors[1])
        # The norms' floor sits inside the root: the gradient of sqrt at 0 is infinite (empty texts,
        # filling rows).
        norm_a, norm_b = (jnp.sqrt(jnp.sum(v * v, axis=-1) + 1e-16) for v in (a, b))
        return (jnp.sum(a * b, axis=-1) / (norm_a * norm_b))[:, None]


class EmbeddingHead(nnx.Module):
    """A text's vector, and the similarities of a batch: the pooled vector, or a trained linear map
    of it; of unit length, or raw.

    Args:
        pooled_dim: width of the pooled vectors; the map keeps it.
        slots: texts of a training row: query, positive and hard negatives.
        config: its `embedding_head`, `embedding_vectors`, `loss_temperature`.
    """

    def __init__(self, pooled_dim: int, slots: int, config: ObjectiveConfig, *, rngs: nnx.Rngs):
        self.slots, self.unit, self.temperature = (
            slots,
            config.embedding_vectors == "unit",
            config.loss_temperature,
        )
        self.projection = (
            Linear(pooled_dim, pooled_dim, rngs=rngs) if config.embedding_head == "linear" else None
        )

    def vectors(self, pooled: Float[Array, "*texts dim"]) -> Float[Array, "*texts dim"]:
        """What is compared by inner product, float32."""
        pooled = pooled.astype(jnp.float32)
        if self.projection is not None:
            pooled = pooled @ self.projection.kernel[...] + self.projection.bias[...]
        # As in CosineHead the floor sits inside the root: an empty text's vector is 0 and stays it.
        return (
            pooled / jnp.sqrt(jnp.sum(pooled * pooled, axis=-1, keepdims=True) + 1e-16)
            if self.unit
            else pooled
        )

    def __call__(
        self, vectors: Float[Array, "slots batch dim"]
    ) -> Float[Array, "batch candidates"]:
        """Similarity / temperature of each query with all positives, then all first hard negatives,
        and so on.
        """
        vectors = self.vectors(vectors)
        candidates = vectors[1:].reshape(-1, vectors.shape[-1])
        return (
            jnp.matmul(vectors[0], candidates.T, precision=jax.lax.Precision.HIGHEST)
            / self.temperature
        )

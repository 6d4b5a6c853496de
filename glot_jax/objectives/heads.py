"""Heads on the pooled vectors: linear scores, the cosine of two texts, similarities of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.graphs.axes import match_rank
from glot_jax.pooling.init import linear_param


class Linear(nnx.Module):
    """`x W + b` in float32, initialised as torch.nn.Linear.

    Heads are too small for another dtype to matter.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        rngs: nnx.Rngs,
    ):
        # Kernel first: the order in which keys are drawn decides the initial values.
        self.kernel = linear_param(rngs, (dim, out), dim)
        self.bias = linear_param(rngs, (out,), dim)

    def __call__(self, values: Float[Array, "batch dim"]) -> Float[Array, "batch out"]:
        """Return the outputs of every row."""
        product = values @ self.kernel[...]
        return product + match_rank(self.bias[...], product)


def pair_features(
    vectors: Float[Array, "roles batch dim"],
    features: str,
) -> Float[Array, "batch width"]:
    """Text vectors of a row as one vector.

    `concat` is [a; b; ...]; `interaction`, of two texts, [a; b; |a-b|; a*b].
    """
    # A list of arrays: the first axis are the texts of a row.
    parts = list(vectors)
    if features == "interaction" and len(parts) == 2:
        a, b = parts
        # Both are the same whichever text comes first, as [a; b] is not.
        parts += [jnp.abs(a - b), a * b]
    return jnp.concatenate(parts, axis=-1)


class Head(nnx.Module):
    """What stands on the pooled vectors: a call gives the outputs that the loss is computed from.

    head(pooled [texts_per_row, batch, dim]) -> outputs [batch, ...]
    """

    def __call__(self, vectors: Float[Array, "roles batch dim"]) -> Float[Array, "batch ..."]:
        """Outputs of the rows, from the pooled vectors of their texts; a subclass has it."""
        raise NotImplementedError

    def vectors(self, pooled: Float[Array, "texts dim"]) -> Float[Array, "texts width"]:
        """The vector that stands for each text, float32: the pooled one."""
        # Poolers may compute in bfloat16; vectors are stored and compared in float32.
        return pooled.astype(jnp.float32)

    def features(
        self,
        pooled: Float[Array, "texts dim"],
        texts_per_row: int,
    ) -> Float[Array, "batch width"]:
        """What a linear map on top would multiply: the pooled vectors of a row side by side."""
        return row_vectors(pooled, texts_per_row)


def row_vectors(
    pooled: Float[Array, "texts dim"],
    texts_per_row: int,
) -> Float[Array, "batch width"]:
    """Pooled vectors of the texts of each row, side by side."""
    vectors = _by_row(pooled, texts_per_row)
    return pair_features(vectors, "concat")


def _by_row(
    pooled: Float[Array, "texts dim"],
    texts_per_row: int,
) -> Float[Array, "roles batch dim"]:
    # Texts are stacked by role: all first texts, then all second texts.
    dim = pooled.shape[-1]
    return pooled.reshape(texts_per_row, -1, dim)


class FeatureHead(Head):
    """Linear scores from the features of one or more texts (`softmax(W [z_a ; z_b] + b)`).

    Args:
        pooled_dim: width of the pooled vectors.
        roles: texts of a row.
        out: outputs: one for each class, or one score.
        features: `concat`, or `interaction`, which needs two texts (one text has nothing to
            interact with).
        rngs: source of the initial values.

    Raises:
        UsageError: `interaction` of more than two texts.
    """

    def __init__(
        self,
        pooled_dim: int,
        roles: int,
        out: int,
        *,
        features: str = "concat",
        rngs: nnx.Rngs,
    ):
        if features == "interaction" and roles > 2:
            raise UsageError(
                rule="--pair-features interaction must be used with two texts a row",
                got=roles,
                fix="Use --pair-features concat.",
            )
        # Of two texts `interaction` has [a; b; |a-b|; a*b].
        copies = 4 if features == "interaction" and roles == 2 else roles
        self.combination = features
        width = pooled_dim * copies
        self.linear = Linear(width, out, rngs=rngs)

    def features(
        self,
        pooled: Float[Array, "texts dim"],
        texts_per_row: int,
    ) -> Float[Array, "batch width"]:
        """What the linear map multiplies."""
        vectors = _by_row(pooled, texts_per_row)
        return pair_features(vectors, self.combination)

    def __call__(self, vectors: Float[Array, "roles batch dim"]) -> Float[Array, "batch out"]:
        """Logits or scores of the rows."""
        features = pair_features(vectors, self.combination)
        return self.linear(features)


class CosineHead(Head):
    """`cos(P z_a, P z_b)` with one trained P for both texts (STS-B)."""

    def __init__(
        self,
        pooled_dim: int,
        *,
        rngs: nnx.Rngs,
    ):
        self.projection = Linear(pooled_dim, pooled_dim, rngs=rngs)

    def __call__(self, vectors: Float[Array, "roles batch dim"]) -> Float[Array, "batch 1"]:
        """Cosines of the rows."""
        # One projection for both: the score must not depend on which text comes first.
        a = self.projection(vectors[0])
        b = self.projection(vectors[1])
        norms = _norm(a) * _norm(b)
        product = jnp.sum(a * b, axis=-1)
        cosine = product / norms
        # A column, like the one score of a linear head: one loss serves both.
        return cosine[:, None]


def _norm(vectors: Float[Array, "batch dim"]) -> Float[Array, " batch"]:
    # The floor sits inside the root: the gradient of sqrt at 0 is infinite (empty texts, filling
    # rows).
    squares = jnp.sum(vectors * vectors, axis=-1)
    return jnp.sqrt(squares + 1e-16)


class EmbeddingHead(Head):
    """A text's vector, and the similarities of a batch.

    The vector is the pooled one, or a trained linear map of it; of unit length, or raw.

    Args:
        pooled_dim: width of the pooled vectors; the map keeps it.
        slots: texts of a training row: query, positive and hard negatives.
        config: its `embedding_head`, `embedding_vectors`, `loss_temperature`.
        rngs: source of the initial values.
    """

    def __init__(
        self,
        pooled_dim: int,
        slots: int,
        config: ObjectiveConfig,
        *,
        rngs: nnx.Rngs,
    ):
        self.slots = slots
        self.unit = config.embedding_vectors == "unit"
        self.temperature = config.loss_temperature
        # Assigned once: NNX takes an attribute that starts as None for static.
        projection = None
        if config.embedding_head == "linear":
            projection = Linear(pooled_dim, pooled_dim, rngs=rngs)
        self.projection = projection

    def vectors(self, pooled: Float[Array, "*texts dim"]) -> Float[Array, "*texts dim"]:
        """What is compared by inner product, float32."""
        pooled = pooled.astype(jnp.float32)
        if self.projection is not None:
            # Not by a call: vectors of a batch may come with an axis of slots.
            product = pooled @ self.projection.kernel[...]
            pooled = product + match_rank(self.projection.bias[...], product)
        if not self.unit:
            return pooled
        # As in `_norm` the floor sits inside the root: an empty text's vector is 0 and stays it.
        squares = jnp.sum(pooled * pooled, axis=-1, keepdims=True)
        return pooled / jnp.sqrt(squares + 1e-16)

    def features(
        self,
        pooled: Float[Array, "texts dim"],
        texts_per_row: int,
    ) -> Float[Array, "batch width"]:
        """The vector of each text: texts are ranked one by one, whatever a training row has."""
        del texts_per_row
        return self.vectors(pooled)

    def __call__(
        self, vectors: Float[Array, "slots batch dim"]
    ) -> Float[Array, "batch candidates"]:
        """Similarity / temperature of each query with every candidate of the batch.

        Candidates are all positives, then all first hard negatives, and so on.
        """
        vectors = self.vectors(vectors)
        # Slot by slot, not row by row: the first columns are the positives, as the loss expects.
        width = vectors.shape[-1]
        candidates = vectors[1:].reshape(-1, width)
        # Divided by a small temperature, an error of bfloat16 products would be a large one.
        highest = jax.lax.Precision.HIGHEST
        queries = vectors[0]
        similarities = jnp.matmul(queries, candidates.T, precision=highest)
        return similarities / self.temperature

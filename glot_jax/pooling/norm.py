"""Batch normalisation over real tokens only, with PyTorch's running statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from glot_jax.graphs.axes import match_rank


class BatchNorm(nnx.Module):
    """torch.nn.BatchNorm1d over a padded batch: padding neither counts nor is counted.

    In training the batch's own mean and biased variance normalise; the running mean and *unbiased*
    variance move by `momentum` towards them (nnx.BatchNorm keeps the biased one). In evaluation the
    running ones normalise. They are variables of the type nnx.BatchStat, so they travel in a
    checkpoint's `stats`.
    """

    def __init__(
        self,
        width: int,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
    ):
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.mean = nnx.BatchStat(jnp.zeros(width))
        self.var = nnx.BatchStat(jnp.ones(width))
        # Read by nothing: PyTorch's num_batches_tracked, for checkpoints that go there or come from
        # there.
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(
        self,
        values: Float[Array, "*nodes width"],
        mask: Bool[Array, "*nodes"],
        *,
        train: bool = False,
    ) -> Float[Array, "*nodes width"]:
        """Normalise every entry by the statistics of its dimension."""
        # In float32: a sum over the tokens of a batch has too many terms for bfloat16's 8 bits.
        exact = values.astype(jnp.float32)
        if train:
            mean, var = self._batch_statistics(exact, mask)
        else:
            mean = self.mean[...]
            var = self.var[...]
        factor = jax.lax.rsqrt(var + self.epsilon)
        normal = (exact - match_rank(mean, exact)) * match_rank(factor, exact)
        scale = match_rank(self.scale[...], exact)
        bias = match_rank(self.bias[...], exact)
        scaled = normal * scale + bias
        return scaled.astype(values.dtype)

    def _batch_statistics(self, values: Array, mask: Array) -> tuple[Array, Array]:
        # Graphs have one axis of nodes or two; the last one is the width in both.
        axes = tuple(range(values.ndim - 1))
        is_real = mask[..., None]
        # A batch of padding only has no token to divide by.
        count = jnp.maximum(jnp.sum(mask), 1)
        count = count.astype(jnp.float32)
        real = jnp.where(is_real, values, 0)
        mean = jnp.sum(real, axis=axes) / count
        # Masked behind the square: centred padding is not 0.
        squares = jnp.square(values - match_rank(mean, values))
        squares = jnp.where(is_real, squares, 0)
        var = jnp.sum(squares, axis=axes) / count
        # PyTorch keeps the unbiased variance, and normalises with the biased one.
        others = jnp.maximum(count - 1, 1)
        unbiased = var * (count / others)
        self._move(self.mean, mean)
        self._move(self.var, unbiased)
        self.batches[...] = self.batches[...] + 1
        return mean, var

    def _move(self, running: nnx.BatchStat, now: Array) -> None:
        """Move a running statistic by `momentum` towards that of the batch."""
        # The share of the new, as in PyTorch; Flax's momentum is that of the old.
        kept = (1 - self.momentum) * running[...]
        # A statistic is written and not returned, so no gradient may reach it.
        new = jax.lax.stop_gradient(now)
        running[...] = kept + self.momentum * new

"""Batch normalisation over real tokens only, with PyTorch's running statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float


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
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(
        self,
        values: Float[Array, "*nodes width"],
        mask: Bool[Array, "*nodes"],
        *,
        train: bool = False,
    ) -> Float[Array, "*nodes width"]:
        """Normalise every entry by the statistics of its dimension."""
        if train:
            mean, var = self._batch_statistics(values.astype(jnp.float32), mask)
        else:
            mean = self.mean[...]
            var = self.var[...]
        normal = (values.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + self.epsilon)
        return (normal * self.scale[...] + self.bias[...]).astype(values.dtype)

    def _batch_statistics(self, values: Array, mask: Array) -> tuple[Array, Array]:
        axes = tuple(range(values.ndim - 1))
        is_real = mask[..., None]
        # A batch of padding only has no token to divide by.
        count = jnp.maximum(jnp.sum(mask), 1).astype(jnp.float32)
        mean = jnp.sum(jnp.where(is_real, values, 0), axis=axes) / count
        var = jnp.sum(jnp.where(is_real, jnp.square(values - mean), 0), axis=axes) / count
        # PyTorch keeps the unbiased variance, and normalises with the biased one.
        unbiased = var * (count / jnp.maximum(count - 1, 1))
        self._move(self.mean, mean)
        self._move(self.var, unbiased)
        self.batches[...] = self.batches[...] + 1
        return mean, var

    def _move(self, running: nnx.BatchStat, now: Array) -> None:
        """Move a running statistic by `momentum` towards that of the batch."""
        kept = (1 - self.momentum) * running[...]
        running[...] = kept + self.momentum * jax.lax.stop_gradient(now)

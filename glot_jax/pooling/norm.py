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

    def __init__(self, width: int, *, momentum: float = 0.1, epsilon: float = 1e-5):
        self.momentum, self.epsilon = momentum, epsilon
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(width)), nnx.BatchStat(jnp.ones(width))
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(
        self,
        values: Float[Array, "*nodes width"],
        mask: Bool[Array, "*nodes"],
        *,
        train: bool = False,
    ) -> Float[Array, "*nodes width"]:
        mean, var = self.mean[...], self.var[...]
        if train:
            mean, var = self._batch_statistics(values.astype(jnp.float32), mask)
        normal = (values.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + self.epsilon)
        return (normal * self.scale[...] + self.bias[...]).astype(values.dtype)

    def _batch_statistics(self, values: Array, mask: Array) -> tuple[Array, Array]:
        axes = tuple(range(values.ndim - 1))
        count = jnp.maximum(jnp.sum(mask), 1).astype(jnp.float32)
        mean = jnp.sum(jnp.where(mask[..., None], values, 0), axis=axes) / count
        var = jnp.sum(jnp.where(mask[..., None], jnp.square(values - mean), 0), axis=axes) / count
        unbiased = var * (count / jnp.maximum(count - 1, 1))
        for running, now in ((self.mean, mean), (self.var, unbiased)):
            running[...] = (1 - self.momentum) * running[
                ...
            ] + self.momentum * jax.lax.stop_gradient(now)
        self.batches[...] = self.batches[...] + 1
        return mean, var

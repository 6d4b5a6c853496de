"""Initialisers of the reference implementations: PyTorch Geometric's layers and torch.nn.Linear."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array


def uniform(key: Array, shape: tuple[int, ...], bound: float) -> Array:
    """U(-bound, bound), float32."""
    return jax.random.uniform(
        key,
        shape,
        jnp.float32,
        -bound,
        bound,
    )


def glorot(key: Array, shape: tuple[int, ...]) -> Array:
    """Glorot uniform over the last two axes; for an attention vector [heads, width] those are its
    fans.
    """
    return uniform(key, shape, math.sqrt(6 / (shape[-2] + shape[-1])))


def torch_linear(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """torch.nn.Linear's default for kernel and bias alike: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return uniform(key, shape, 1 / math.sqrt(fan_in))

"""Initialisers of the reference implementations: PyTorch Geometric's layers and torch.nn.Linear."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
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
    """Glorot uniform over the last two axes.

    For an attention vector [heads, width] those are its fans.
    """
    fans = shape[-2] + shape[-1]
    return uniform(key, shape, math.sqrt(6 / fans))


def torch_linear(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """torch.nn.Linear's default for kernel and bias alike: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    # PyTorch asks for kaiming_uniform with a = sqrt(5), whose bound sqrt(6 / ((1 + 5) fan_in)) is
    # this one.
    bound = 1 / math.sqrt(fan_in)
    return uniform(key, shape, bound)


def glorot_param(rngs: nnx.Rngs, shape: tuple[int, ...]) -> nnx.Param[Array]:
    """Return a parameter of `glorot`, with the next key of the stream `params`."""
    drawn = glorot(rngs.params(), shape)
    return nnx.Param(drawn)


def linear_param(
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
    fan_in: int,
) -> nnx.Param[Array]:
    """Return a parameter of `torch_linear`, with the next key of the stream `params`."""
    drawn = torch_linear(rngs.params(), shape, fan_in)
    return nnx.Param(drawn)

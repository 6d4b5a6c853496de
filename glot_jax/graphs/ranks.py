"""Arrays of different ranks, side by side on purpose."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def match_rank(array: Array, other: Array) -> Array:
    """Return `array` with as many axes as `other` has: those in front have length 1.

    JAX would add them silently. Whoever sets `jax_numpy_rank_promotion` to `raise`, as our tests
    do, finds forgotten axes; what is meant says so here.
    """
    missing = other.ndim - array.ndim
    return jnp.expand_dims(array, tuple(range(missing)))

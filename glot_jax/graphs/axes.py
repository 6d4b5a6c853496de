"""Axes of arrays: what counts their entries, and arrays of different numbers of them."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array

# JAX has no public class of symbolic dimensions, and annotates its own functions in this way.
Size: TypeAlias = int | Any
"""An int, or a symbolic dimension of jax.export, which stands for every int that its constraints
allow. Arithmetic works on both; a comparison that the constraints do not decide raises
jax.errors.InconclusiveDimensionOperation.
"""


def match_rank(array: Array, other: Array) -> Array:
    """Return `array` with as many axes as `other` has: those in front have length 1.

    JAX would add them silently. Whoever sets `jax_numpy_rank_promotion` to `raise`, as our tests
    do, finds forgotten axes; what is meant says so here.
    """
    missing = other.ndim - array.ndim
    return jnp.expand_dims(array, tuple(range(missing)))

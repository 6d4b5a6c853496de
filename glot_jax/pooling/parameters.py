"""How many numbers of a module are trained."""

from __future__ import annotations

import math

import jax
from flax import nnx


def count_parameters(module: nnx.Module | None) -> int:
    """Count the trained numbers of a module (or of its shapes) in its tree; none of None."""
    if module is None:
        return 0
    # Running statistics are variables too, but of another type.
    leaves = jax.tree.leaves(nnx.state(module, nnx.Param))
    # By shape: what nnx.eval_shape returns has no entries.
    return sum(math.prod(leaf.shape) for leaf in leaves)

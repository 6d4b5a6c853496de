"""Notices a loop over texts of many lengths without jit, which compiles every length anew."""

from __future__ import annotations

import warnings

from jax import Array
from jax.core import Tracer

SHAPES_BEFORE_WARNING = 16
"""Shapes of one process that need no warning: a notebook's examples, the buckets of a store."""

# The one piece of state in this package: nothing is computed from it, and it ends with the warning.
_shapes: set[tuple[int, ...]] = set()


def note_eager_shape(hidden: Array) -> None:
    """Warn once when graphs of ever new shapes are built outside of jax.jit.

    Args:
        hidden: states [batch, length, dim] that a graph is built of.
    """
    # Under jax.jit every shape is traced once, and compiled as a whole.
    if isinstance(hidden, Tracer):
        return
    # The warning was given: the set has stopped growing.
    if len(_shapes) > SHAPES_BEFORE_WARNING:
        return
    _shapes.add(hidden.shape)
    if len(_shapes) > SHAPES_BEFORE_WARNING:
        # Level 3 is what called `token_graph`: there is the loop that should change.
        warnings.warn(
            f"token_graph was called with {len(_shapes)} different shapes outside of jax.jit; JAX "
            "compiles every operation anew for each of them, which takes longer than the "
            "operations. Pad texts to a few lengths (see TokenBatch), or jit a function of padded "
            "states.",
            stacklevel=3,
        )

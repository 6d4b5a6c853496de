"""`TokenBatch`: token states of a batch of rows, padded to one of a few fixed shapes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenBatch:
    """Rows of a store, padded to one of a few fixed shapes.

    The texts of a row are stacked, first texts of all rows, then second texts: a batch of 3 pairs
    has texts `a0 a1 a2 b0 b1 b2`, one shape for all of them.

    - `hidden`: [texts, length, dim], or [texts, length, layers, dim] of several layers; any float
      dtype, as stored; zeros where padded
    - `mask`: [texts, length] bool, True = real token, on whichever side the padding stands
    - `labels`: [batch] int32 classes or float32 scores (zeros where a task has none)
    - `row_mask`: [batch] bool, False = a row that only fills the last, partial batch
    """

    hidden: Any  # not Array: transformations rebuild the pytree around what is no array
    mask: Any
    labels: Any
    row_mask: Any

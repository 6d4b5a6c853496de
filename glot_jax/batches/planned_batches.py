"""Which tokens stand in the batches of consecutive steps; the program gathers them itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glot_jax.batches.packed_states import Tokens, take
from glot_jax.batches.token_batch import TokenBatch


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlannedBatches:
    """The batches of consecutive steps, before their token states are gathered.

    The first axis of every array counts steps. Texts are stacked as in `TokenBatch`.

    - `starts`: [steps, texts] int32, first token of each text among those of its split
    - `lengths`: [steps, texts] int32, tokens of each text; 0 where none stands
    - `labels`: [steps, batch, ...], as in `TokenBatch`
    - `row_mask`: [steps, batch] bool, as in `TokenBatch`
    """

    starts: Any  # not Array: transformations rebuild the pytree around what is no array
    lengths: Any
    labels: Any
    row_mask: Any

    def __len__(self) -> int:
        """Steps."""
        return len(self.row_mask)

    def gather(self, tokens: Tokens, step: Array, length: int) -> TokenBatch:
        """The batch of one of the steps, within a compiled program.

        Args:
            tokens: [tokens, (layers,) dim] of the split.
            step: [] int32, counted from the first of these.
            length: padded length.
        """

        def at_step(values: Array) -> Array:
            return jax.lax.dynamic_index_in_dim(values, step, keepdims=False)

        planned = jax.tree.map(at_step, self)
        padded = padded_states(tokens, planned.starts, planned.lengths, length)
        # A step computes the same digits whether its batch is gathered here or was made before:
        # without the barrier XLA fuses the gather with what reads it, and adds in another order.
        hidden, mask = jax.lax.optimization_barrier(padded)
        return TokenBatch(
            hidden=hidden,
            mask=mask,
            labels=planned.labels,
            row_mask=planned.row_mask,
        )


def padded_states(
    tokens: Tokens,
    starts: Array,
    lengths: Array,
    length: int,
) -> tuple[Array, Array]:
    """Token states of some texts, padded.

    Args:
        tokens: [tokens, (layers,) dim] of a split.
        starts: [texts] int32, first token of each text.
        lengths: [texts] int32, tokens of each text.
        length: padded length.

    Returns:
        hidden [texts, length, (layers,) dim] and mask [texts, length].
    """
    position = jnp.arange(length, dtype=starts.dtype)
    mask = position[None, :] < lengths[:, None]
    # Past its end a short text reads tokens of the next one, and the last text none: clipped here,
    # masked below.
    index = starts[:, None] + position[None, :]
    hidden = take(tokens, index)
    # One more axis for the width, and one for the layers where there are several.
    further_axes = [1] * (tokens.ndim - 1)
    is_token = mask.reshape(*mask.shape, *further_axes)
    return jnp.where(is_token, hidden, 0), mask


def run_lengths(padded: np.ndarray) -> np.ndarray:
    """For each step, how many from it on have the same padded length, itself included.

    Args:
        padded: [steps] int, padded length of each step's batch.

    Returns:
        [steps] int64, at least 1.
    """
    steps = len(padded)
    changes = np.flatnonzero(np.diff(padded)) + 1
    # A run ends where the length changes, the last one with the last step.
    ends = np.append(changes, steps)
    index = np.arange(steps)
    return ends[np.searchsorted(ends, index, side="right")] - index

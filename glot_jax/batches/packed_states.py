"""Token states that wait packed, as int4, and are unpacked where a batch is gathered.

A quarter of the memory of float16, and no more work than a small product a token
(`store.scaled_states` says what they undo).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glot_jax.store.scaled_states import GROUP, Rotation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedStates:
    """The tokens of a split, four bits a value.

    - `values`: [tokens, (layers,) ceil(dim / 2)] uint8
    - `scales`: [tokens, (layers,) ceil(dim / 64)] float16
    """

    values: Any  # not Array: transformations rebuild the pytree around what is no array
    scales: Any
    dim: int = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})
    """Of the states that are gathered."""

    @property
    def ndim(self) -> int:
        """Axes of the unpacked states."""
        return self.values.ndim

    def take(self, index: Array) -> Array:
        """States of some tokens, [..., (layers,) dim]; an index past the end is the last token's.

        Args:
            index: [...] int32.
        """
        values = jnp.take(
            self.values,
            index,
            axis=0,
            mode="clip",
        )
        scales = jnp.take(
            self.scales,
            index,
            axis=0,
            mode="clip",
        )
        states = unpacked(values, scales, self.dim)
        # Rounded as a reader's states are: what is trained on is what is evaluated on.
        return states.astype(self.dtype)


Tokens = Array | PackedStates
"""Token states of a split on the device: [tokens, (layers,) dim], plain or packed."""


def take(tokens: Tokens, index: Array) -> Array:
    """States of some tokens, [..., (layers,) dim]; an index past the end is the last token's.

    Args:
        tokens: of a split.
        index: [...] int32.
    """
    if isinstance(tokens, PackedStates):
        return tokens.take(index)
    return jnp.take(
        tokens,
        index,
        axis=0,
        mode="clip",
    )


def unpacked(values: Array, scales: Array, dim: int) -> Array:
    """`scaled_states.decode` of int4 within a program.

    Args:
        values: [..., ceil(dim / 2)] uint8.
        scales: [..., ceil(dim / 64)] float16.
        dim: width of a state.

    Returns:
        float32 [..., dim].
    """
    lead = values.shape[:-1]
    lower = values & 0x0F
    upper = values >> 4
    # The lower half of a byte comes first.
    halves = jnp.stack([lower, upper], axis=-1)
    steps = halves.reshape(*lead, -1)
    steps = steps[..., :dim].astype(jnp.float32) - 8.0
    rotation = Rotation.of_width(dim)
    by_block = steps.reshape(*lead, -1, rotation.block)
    sums = jnp.einsum(
        "...ij,jk->...ik",
        by_block,
        rotation.matrix,
        # Whole numbers up to 448: exact, where a GPU would otherwise round to half the digits.
        precision=jax.lax.Precision.HIGHEST,
    )
    wide = scales.astype(jnp.float32)
    by_value = jnp.repeat(wide, GROUP, axis=-1)
    turned = sums.reshape(steps.shape) * by_value[..., :dim]
    # With as many axes: none are added silently.
    signs = rotation.signs.reshape(*[1] * len(lead), dim)
    return turned * signs

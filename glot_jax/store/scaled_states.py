"""States as small integers with scales: int8 with one a token, int4 with one for 64 values.

| dtype | values | scales | bytes of float16's |
| --- | --- | --- | --- |
| int8 | int8 [tokens, dim] | float16 [tokens] | .50 |
| int4 | uint8 [tokens, ceil(dim / 2)], two values a byte | float16 [tokens, ceil(dim / 64)] | .27 |

Four bits have fifteen levels, and the largest of 64 values decides their scale: where one value
is much larger than the others, as in the states of most language models, these would all be zero.
int4 states are therefore rotated before they are rounded, and rotated back when they are read
(QuaRot, Ashkboos et al. 2024, arXiv 2404.00456, rotates activations for the same reason). A
rotation changes no norm and no cosine, and spreads a large value over many.

The rotation is x -> H S2 T H S1 x. S1 and S2 flip signs, H is the normalised Hadamard matrix in
blocks of 64 values (or of the largest power of two that divides the width), and T transposes
[blocks, values of a block], so that each block's values are spread over all blocks. The signs are
bits of SHAKE-256 of a constant text, the same for every store and in every language.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from glot_jax.store.arrays import DTYPES, Shape

GROUP = 64
"""Values of an int4 state that share a scale."""

_LARGEST = 7
_SIGNS = "glot-jax int4 signs"
_LARGEST_BLOCK = 64
_UINT8 = np.dtype(np.uint8)


def is_scaled(logical: str) -> bool:
    """Whether states of this logical dtype come with scales."""
    return logical in ("int8", "int4")


def float16_bound(logical: str) -> float:
    """Largest magnitude below which states come back as float16, whose largest value is 65,504.

    A rounded state can be larger than the one that was stored: by half a step of int8, and of int4
    by the errors of a whole token, which the rotation spreads over its values.
    """
    return 65_000.0 if logical == "int8" else 60_000.0


def values_shape(logical: str, tokens: int, dim: int) -> Shape:
    """Shape of a file of states."""
    if logical == "int4":
        return (tokens, -(-dim // 2))
    return (tokens, dim)


def scales_shape(logical: str, tokens: int, dim: int) -> Shape:
    """Shape of a file of scales."""
    if logical == "int4":
        return (tokens, -(-dim // GROUP))
    return (tokens,)


def bytes_per_token(logical: str, dim: int) -> int:
    """Bytes of one layer's state of a token, with its scales."""
    if logical == "int4":
        values = values_shape(logical, 1, dim)
        scales = scales_shape(logical, 1, dim)
        return values[1] + 2 * scales[1]
    scale = 2 if logical == "int8" else 0
    return dim * DTYPES[logical].itemsize + scale


def decode(logical: str, values: np.ndarray, scales: np.ndarray, dim: int) -> np.ndarray:
    """The states, float32 [tokens, dim].

    Args:
        logical: int8 or int4.
        values: as they lie in their file.
        scales: of these tokens.
        dim: width of a state.
    """
    # Widened first: small integers times float16 would be rounded to float16 by NumPy.
    wide = scales.astype(np.float32)
    if logical == "int8":
        # One scale for all values of a token.
        return values * wide[:, None]
    return rotate_back(_scaled(values, wide, dim))


def norms(logical: str, values: np.ndarray, scales: np.ndarray, dim: int) -> np.ndarray:
    """Norms of the states, float32 [tokens]; of int4 without rotating them back."""
    wide = scales.astype(np.float32)
    if logical == "int8":
        plain = values.astype(np.float32)
        return np.sqrt(np.einsum("td,td->t", plain, plain)) * wide
    rotated = _scaled(values, wide, dim)
    return np.sqrt(np.einsum("td,td->t", rotated, rotated))


def _scaled(values: np.ndarray, scales: np.ndarray, dim: int) -> np.ndarray:
    """Rotated states from packed values and float32 scales."""
    by_value = np.repeat(scales, GROUP, axis=1)[:, :dim]
    return unpack(values, dim) * by_value


def pack(values: np.ndarray) -> np.ndarray:
    """Two values a byte: uint8 [tokens, ceil(dim / 2)] of int8 [tokens, dim], -7 .. 7.

    The first value of a pair is the lower half of its byte, as v + 8; where there is no second one
    its half is that of a zero.
    """
    tokens, dim = values.shape
    padded = np.zeros((tokens, dim + dim % 2), np.int8)
    padded[:, :dim] = values
    halves = (padded + 8).astype(np.uint8)
    return halves[:, 0::2] | (halves[:, 1::2] << 4)


def unpack(packed: np.ndarray, dim: int) -> np.ndarray:
    """int8 [tokens, dim] of what `pack` returned."""
    halves = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    flat = halves.reshape(len(packed), -1)[:, :dim]
    return flat.astype(np.int8) - 8


def rotate(states: np.ndarray) -> np.ndarray:
    """Rotated states, float32 [tokens, dim]."""
    rotation = Rotation.of_width(states.shape[1])
    turned = rotation.blocks(states.astype(np.float32) * rotation.first)
    turned = rotation.spread(turned) * rotation.second
    return rotation.blocks(turned)


def rotate_back(states: np.ndarray) -> np.ndarray:
    """States of rotated ones, float32 [tokens, dim]."""
    rotation = Rotation.of_width(states.shape[1])
    # The Hadamard matrix is its own inverse, and so is a flipped sign.
    turned = rotation.blocks(states) * rotation.second
    return rotation.blocks(rotation.gather(turned)) * rotation.first


class Rotation:
    """The rotation of one width.

    Attributes:
        block: values that a Hadamard matrix mixes.
        hadamard: float32 [block, block], orthogonal and symmetric.
        first: float32 [dim], signs before everything else.
        second: float32 [dim], signs before the second matrix.
    """

    def __init__(self, dim: int):
        # The lowest bit that is set: the largest power of two that divides the width.
        self.block = min(_LARGEST_BLOCK, dim & -dim)
        self.hadamard = _hadamard(self.block)
        # Enough bits for both, the first ones first.
        stream = hashlib.shake_256(_SIGNS.encode()).digest(-(-2 * dim // 8))
        bits = np.unpackbits(np.frombuffer(stream, _UINT8), bitorder="little")
        signs = 1.0 - 2.0 * bits.astype(np.float32)
        self.first = signs[:dim]
        self.second = signs[dim : 2 * dim]

    @staticmethod
    @functools.cache
    def of_width(dim: int) -> Rotation:
        """The rotation for states of this width."""
        return Rotation(dim)

    def blocks(self, states: np.ndarray) -> np.ndarray:
        """Mix the values of each block."""
        by_block = states.reshape(len(states), -1, self.block)
        return (by_block @ self.hadamard).reshape(states.shape)

    def spread(self, states: np.ndarray) -> np.ndarray:
        """Put the values of each block into all blocks."""
        by_block = states.reshape(len(states), -1, self.block)
        return by_block.swapaxes(1, 2).reshape(states.shape)

    def gather(self, states: np.ndarray) -> np.ndarray:
        """Undo `spread`."""
        by_value = states.reshape(len(states), self.block, -1)
        return by_value.swapaxes(1, 2).reshape(states.shape)


def _hadamard(size: int) -> np.ndarray:
    """Sylvester's matrix of a power of two, normalised: float32 [size, size]."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        upper = np.concatenate([matrix, matrix], axis=1)
        lower = np.concatenate([matrix, -matrix], axis=1)
        matrix = np.concatenate([upper, lower])
    return matrix / np.float32(np.sqrt(size))

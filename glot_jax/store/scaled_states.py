"""States as small integers with scales: int8 with one a token, int4 with one for 64 values.

| dtype | values | scales | bytes of float16's |
| --- | --- | --- | --- |
| int8 | int8 [tokens, dim] | float16 [tokens] | .50 |
| int4 | uint8 [tokens, ceil(dim / 2)], two values a byte | float16 [tokens, ceil(dim / 64)] | .27 |

Four bits have fifteen levels, and the largest of 64 values decides their scale: where one value
is much larger than the others, as in the states of most language models, these would all be zero.
Each block of 64 values is therefore rotated before it is rounded, and rotated back when it is read
(QuaRot, Ashkboos et al. 2024, arXiv 2404.00456, rotates activations for the same reason). A
rotation changes no norm and no cosine, and spreads a large value over its block; over all blocks it
would spoil those that have none.

The rotation is x -> H S x: S flips signs, H is the normalised Hadamard matrix of a block (of 64
values, or of the largest power of two that divides the width). The signs are bits of SHAKE-256 of a
constant text, the same for every store and in every language.

H has entries of one magnitude, and a block lies within a group. What is read is therefore a sum of
small integers times one number, the same to the last bit wherever and in whatever order it is
computed.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from glot_jax.store.arrays import DTYPES, Shape

GROUP = 64
"""Values of an int4 state that share a scale."""

_SCALE_BYTES = 2
_SIGNS = b"glot-jax int4 signs"
_ZERO = np.int8(8)
"""What half a byte holds for a value of 0."""
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
        # The last byte of an odd width is half empty.
        width = _divided(dim, 2)
        return (tokens, width)
    return (tokens, dim)


def scales_shape(logical: str, tokens: int, dim: int) -> Shape:
    """Shape of a file of scales."""
    if logical == "int4":
        # The last group may hold fewer values.
        groups = _divided(dim, GROUP)
        return (tokens, groups)
    return (tokens,)


def _divided(number: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-number // by)


def bytes_per_token(logical: str, dim: int) -> int:
    """Bytes of one layer's state of a token, with its scales."""
    if logical == "int4":
        _, width = values_shape(logical, 1, dim)
        _, groups = scales_shape(logical, 1, dim)
        return width + _SCALE_BYTES * groups
    size = dim * DTYPES[logical].itemsize
    if logical == "int8":
        size += _SCALE_BYTES
    return size


def decode(
    logical: str,
    values: np.ndarray,
    scales: np.ndarray,
    dim: int,
) -> np.ndarray:
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
    rotation = Rotation.of_width(dim)
    steps = unpack(values, dim)
    # Sums of whole numbers up to 448, which float32 has exactly.
    sums = rotation.sums(steps.astype(np.float32))
    turned = sums * by_value(wide, dim)
    return turned * rotation.signs


def norms(
    logical: str,
    values: np.ndarray,
    scales: np.ndarray,
    dim: int,
) -> np.ndarray:
    """Norms of the states, float32 [tokens]; of int4 without rotating them back."""
    wide = scales.astype(np.float32)
    if logical == "int8":
        # Scaled at the end: one product for a token, and not one for each of its values.
        plain = values.astype(np.float32)
        return lengths_of_rows(plain) * wide
    rotated = unpack(values, dim) * by_value(wide, dim)
    return lengths_of_rows(rotated)


def lengths_of_rows(rows: np.ndarray) -> np.ndarray:
    """Euclidean norm of each row, in the dtype of the rows."""
    squares = np.einsum("td,td->t", rows, rows)
    return np.sqrt(squares)


def by_value(scales: np.ndarray, dim: int) -> np.ndarray:
    """The scale of each value, [tokens, dim], of scales [tokens, groups]."""
    repeated = np.repeat(scales, GROUP, axis=1)
    # The last group may be longer than what is left of the width.
    return repeated[:, :dim]


def pack(values: np.ndarray) -> np.ndarray:
    """Two values a byte: uint8 [tokens, ceil(dim / 2)] of int8 [tokens, dim], -7 .. 7.

    The first value of a pair is the lower half of its byte, as v + 8; where there is no second one
    its half is that of a zero.
    """
    tokens, dim = values.shape
    even = dim + dim % 2
    padded = np.zeros((tokens, even), np.int8)
    padded[:, :dim] = values
    # Half a byte has no sign.
    halves = padded + _ZERO
    halves = halves.astype(np.uint8)
    lower = halves[:, 0::2]
    upper = halves[:, 1::2]
    return lower | (upper << 4)


def unpack(packed: np.ndarray, dim: int) -> np.ndarray:
    """int8 [tokens, dim] of what `pack` returned."""
    lower = packed & 0x0F
    upper = packed >> 4
    # The lower half of a byte comes first.
    halves = np.stack([lower, upper], axis=-1)
    flat = halves.reshape(len(packed), -1)
    flat = flat[:, :dim]
    return flat.astype(np.int8) - _ZERO


class Rotation:
    """The rotation of one width.

    Attributes:
        block: values that a Hadamard matrix mixes.
        matrix: float32 [block, block], of 1 and -1, symmetric.
        signs: float32 [dim], 1 or -1, divided by the root of the block: with them the matrix is
            orthogonal.
    """

    def __init__(self, dim: int):
        # The lowest bit that is set: the largest power of two that divides the width.
        lowest_bit = dim & -dim
        self.block = min(GROUP, lowest_bit)
        self.matrix = _hadamard(self.block)
        size = _divided(dim, 8)
        # NumPy's own generators may change between its versions; a hash does not.
        stream = hashlib.shake_256(_SIGNS).digest(size)
        content = np.frombuffer(stream, _UINT8)
        bits = np.unpackbits(content, bitorder="little")
        flips = bits[:dim].astype(np.float32)
        root = np.float32(np.sqrt(self.block))
        self.signs = (1 - 2 * flips) / root

    @staticmethod
    @functools.cache
    def of_width(dim: int) -> Rotation:
        """The rotation for states of this width."""
        return Rotation(dim)

    def sums(self, states: np.ndarray) -> np.ndarray:
        """The values of each block, added and subtracted as the matrix says."""
        by_block = states.reshape(len(states), -1, self.block)
        mixed = by_block @ self.matrix
        return mixed.reshape(states.shape)

    def rotate(self, states: np.ndarray) -> np.ndarray:
        """Rotated states, float32 [tokens, dim]."""
        flipped = states.astype(np.float32) * self.signs
        return self.sums(flipped)


def _hadamard(size: int) -> np.ndarray:
    """Sylvester's matrix of a power of two: float32 [size, size]."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        upper = np.concatenate([matrix, matrix], axis=1)
        lower = np.concatenate([matrix, -matrix], axis=1)
        matrix = np.concatenate([upper, lower])
    return matrix

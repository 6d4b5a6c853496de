"""The lengths that texts are padded to: a few, so that few shapes are compiled."""

from __future__ import annotations

import math

# Finer below: among short texts a few tokens of padding are a larger share.
_LADDER = (
    *range(8, 64, 8),
    *range(64, 128, 16),
)
"""Padded lengths up to 128; above, multiples of 64: few shapes are compiled, few padded tokens
computed.
"""


def padded_lengths(max_length: int) -> list[int]:
    """The lengths, ascending, that batches of texts of up to `max_length` tokens are padded to."""
    return sorted({padded_length(length) for length in range(1, max_length + 1)})


def padded_length(longest: int) -> int:
    """The length that texts of `longest` tokens are padded to: one of few, as few are compiled."""
    for length in _LADDER:
        if length >= longest:
            return length
    return math.ceil(longest / 64) * 64

"""Random sentences for the tests of graphs and poolers."""

from __future__ import annotations

import numpy as np


def sentences(
    lengths: list[int], dim: int = 12, seed: int = 0, shared: float = 1.2
) -> list[np.ndarray]:
    """States x = shared·g + n with one g per sentence.

    Cosines lie around shared²/(shared² + 1), on both sides of 0.5.

    Sentences are drawn again while a cosine lies within 1e-4 of 0.5, the tests' threshold: rounding
    must not decide.
    """
    rng = np.random.default_rng(seed)
    found = []
    for length in lengths:
        while True:
            states = (shared * rng.normal(size=dim) + rng.normal(size=(length, dim))).astype(
                np.float32
            )
            unit = states.astype(np.float64) / np.linalg.norm(
                states.astype(np.float64), axis=1, keepdims=True
            )
            if np.all(np.abs(unit @ unit.T - 0.5) > 1e-4):
                break
        found.append(states)
    return found


def pad(
    states: list[np.ndarray], length: int | None = None, side: str = "right", fill: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """`hidden [batch, length, dim]` float32 and `mask [batch, length]` bool.

    Padded on one side with `fill`.
    """
    length = length or max(map(len, states))
    hidden = np.full((len(states), length, states[0].shape[1]), fill, np.float32)
    mask = np.zeros((len(states), length), bool)
    for row, of in enumerate(states):
        where = slice(0, len(of)) if side == "right" else slice(length - len(of), length)
        hidden[row, where], mask[row, where] = of, True
    return hidden, mask

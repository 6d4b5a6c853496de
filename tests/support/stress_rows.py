"""Small stress tests for the tests of their words, generators and controls."""

from __future__ import annotations

from collections.abc import Iterable

from glot_jax.texts.stress_texts import StressRow, generate
from glot_jax.texts.stress_words import PAIRS

ROWS = (60, 20, 40)
"""Rows of train, validation and test."""
VOCABULARY = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
RELATED = {word for pair in PAIRS for word in pair}


def make(
    protocol: str,
    ratio: float = 0.9,
    rows: tuple[int, int, int] = ROWS,
    seed: int = 42,
    distance: int = 0,
    position: float | None = None,
) -> dict[str, list[StressRow]]:
    return generate(
        protocol,
        ratio=ratio,
        rows=rows,
        seed=seed,
        vocabulary=VOCABULARY,
        distance=distance,
        position=position,
    )


def lengths(rows: Iterable[StressRow]) -> set[int]:
    """Word counts that occur."""
    return {len(row.text.split()) for row in rows}

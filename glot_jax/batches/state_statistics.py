"""Mean and deviation of the token states of training rows, which `--standardise` takes off."""

from __future__ import annotations

import numpy as np

from glot_jax.store.split_reader import SplitReader

_CHUNK = 1 << 24  # numbers converted to float64 together


def state_statistics(reader: SplitReader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation per (layer and) dimension over every token of these rows' texts.

    Each text counts once. Two passes over the memory map in float64, in pieces: exact whatever the
    size of the store, flat in memory, and independent of how the store was cut into shards.

    Args:
        reader: split of the rows.
        rows: row indices; a holdout is left out by leaving its rows out.

    Returns:
        (mean, deviation), float64, of the shape of one token's states; (0, 1) where the rows have
        no token.
    """
    texts = _texts_of(reader, rows)
    tokens = int(reader.text_lengths[texts].sum(dtype=np.int64))
    zeros = np.zeros(reader.token_shape)
    if tokens == 0:
        return zeros, np.ones(reader.token_shape)
    mean = _sum(reader, texts, zeros, power=1) / tokens
    # A second pass, not the mean of squares: their difference would lose most digits.
    variance = _sum(reader, texts, mean, power=2) / tokens
    return mean, np.sqrt(variance)


def _texts_of(reader: SplitReader, rows: np.ndarray) -> np.ndarray:
    """Distinct stored texts of these rows, increasing."""
    offsets = reader.row_offsets
    counts = np.diff(offsets)[rows]
    # Slots of each row, numbered from 0: a running number less that of the row's first slot.
    first = np.cumsum(counts) - counts
    within = np.arange(counts.sum()) - np.repeat(first, counts)
    slots = np.repeat(offsets[rows], counts) + within
    return np.unique(reader.row_texts[slots])


def _sum(
    reader: SplitReader,
    texts: np.ndarray,
    centre: np.ndarray,
    *,
    power: int,
) -> np.ndarray:
    """Sum of (state - centre) ** power over the texts' tokens."""
    total = np.zeros(reader.token_shape)
    tokens = reader.text_lengths[texts].astype(np.int64)
    numbers = np.cumsum(tokens * centre.size)
    # A new piece begins wherever the running count passes a multiple of the chunk.
    cuts = np.flatnonzero(np.diff(numbers // _CHUNK)) + 1
    for piece in np.split(texts, cuts):
        states = np.concatenate([reader.states(int(text)) for text in piece])
        distance = states.astype(np.float64) - centre
        total += (distance**power).sum(axis=0)
    return total

"""Mean and deviation of the token states of training rows, which `--standardise` takes off."""

from __future__ import annotations

import numpy as np

from glot_jax.store.split_reader import SplitReader

_CHUNK = 1 << 24  # numbers converted to float64 together


def state_statistics(
    reader: SplitReader,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
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
    lengths = reader.text_lengths[texts]
    tokens = int(lengths.sum(dtype=np.int64))
    zeros = np.zeros(reader.token_shape)
    if tokens == 0:
        return zeros, np.ones(reader.token_shape)
    total = _sum(reader, texts, zeros, power=1)
    mean = total / tokens
    # A second pass, not the mean of squares: their difference would lose most digits.
    squares = _sum(reader, texts, mean, power=2)
    variance = squares / tokens
    return mean, np.sqrt(variance)


def _texts_of(
    reader: SplitReader,
    rows: np.ndarray,
) -> np.ndarray:
    """Distinct stored texts of these rows, increasing."""
    offsets = reader.row_offsets
    counts = np.diff(offsets)[rows]
    # Slots of each row, numbered from 0: a running number less that of the row's first slot.
    first = np.cumsum(counts) - counts
    running = np.arange(counts.sum())
    within = running - np.repeat(first, counts)
    begin = offsets[rows]
    slots = np.repeat(begin, counts) + within
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
    tokens = reader.text_lengths[texts]
    tokens = tokens.astype(np.int64)
    numbers = np.cumsum(tokens * centre.size)
    # A new piece begins wherever the running count passes a multiple of the chunk.
    chunk = numbers // _CHUNK
    passes = np.diff(chunk)
    cuts = np.flatnonzero(passes) + 1
    for piece in np.split(texts, cuts):
        states = np.concatenate([reader.states(int(text)) for text in piece])
        distance = states.astype(np.float64) - centre
        powers = distance**power
        total += powers.sum(axis=0)
    return total

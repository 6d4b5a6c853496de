"""Mean and deviation of the token states of a run's training rows: what `--standardise` brings to 0
and 1.
"""

from __future__ import annotations

import numpy as np

from glot_jax.store.split_reader import SplitReader

_CHUNK = 1 << 24  # numbers converted to float64 together


def state_statistics(reader: SplitReader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation per (layer and) dimension over every token of these rows' texts, each text
    once.

    Two passes over the memory map in float64, in pieces: exact whatever the size of the store, flat
    in memory, and independent of how the store was cut into shards.

    Args:
        reader: split the rows are of.
        rows: row indices; a holdout is left out by leaving its rows out.

    Returns:
        (mean, deviation), float64, of the shape of one token's states; (0, 1) where the rows have
        no token.
    """
    counts = np.diff(reader.row_offsets)[rows]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    texts = np.unique(reader.row_texts[np.repeat(reader.row_offsets[rows], counts) + within])
    tokens = int(reader.text_lengths[texts].sum(dtype=np.int64))
    if tokens == 0:
        return np.zeros(reader.token_shape), np.ones(reader.token_shape)
    mean = _sum(reader, texts, np.zeros(reader.token_shape), power=1) / tokens
    return mean, np.sqrt(_sum(reader, texts, mean, power=2) / tokens)


def _sum(reader: SplitReader, texts: np.ndarray, centre: np.ndarray, *, power: int) -> np.ndarray:
    """Sum of (state - centre) ** power over the texts' tokens."""
    total = np.zeros(reader.token_shape)
    sizes = np.cumsum(reader.text_lengths[texts].astype(np.int64) * centre.size)
    for piece in np.split(texts, np.flatnonzero(np.diff(sizes // _CHUNK)) + 1):
        states = np.concatenate([reader.states(int(text)) for text in piece]).astype(np.float64)
        total += ((states - centre) ** power).sum(axis=0)
    return total

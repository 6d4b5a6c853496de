"""Mean and deviation of the token states of training rows, which `--standardise` takes off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.store.split_reader import SplitReader


class Statistics(NamedTuple):
    """Mean and deviation per (layer and) dimension, float64, of the shape of one token's states."""

    mean: np.ndarray
    deviation: np.ndarray


_CHUNK = 1 << 24  # numbers converted to float64 together


def state_statistics(
    reader: SplitReader,
    rows: np.ndarray,
    *,
    tokens: TokenChoice = EVERY_TOKEN,
    token_norm: str = "none",
) -> Statistics:
    """Mean and deviation per (layer and) dimension over the tokens of these rows' texts.

    Each text counts once. Two passes over the memory map in float64, in pieces: exact whatever the
    size of the store, flat in memory, and independent of how the store was cut into shards.

    Args:
        reader: split of the rows.
        rows: row indices; a holdout is left out by leaving its rows out.
        tokens: which tokens of a text count.
        token_norm: none, or how every state is scaled first: rms or l2.

    Returns:
        The statistics; (0, 1) where the rows have no token.
    """
    texts = texts_of(reader, rows)
    zeros = np.zeros(reader.token_shape)
    if not len(texts):
        return Statistics(zeros, np.ones(reader.token_shape))

    def states_of(text: int) -> np.ndarray:
        states = tokens.of_text(reader.states(text))
        return _scaled(states, token_norm)

    total, count = _sum(reader, texts, states_of, zeros, power=1)
    if count == 0:
        return Statistics(zeros, np.ones(reader.token_shape))
    mean = total / count
    # A second pass, not the mean of squares: their difference would lose most digits.
    squares, _ = _sum(reader, texts, states_of, mean, power=2)
    variance = squares / count
    return Statistics(mean, np.sqrt(variance))


def common_share(states: Sequence[np.ndarray], token_norm: str = "none") -> float:
    """How much of the states' mean square their mean has: 0 for all directions, 1 for one alone.

    Of several layers the largest.

    Args:
        states: of some texts, [tokens, (layers,) dim] each.
        token_norm: how every state is scaled first, as in `state_statistics`.
    """
    # No token, no direction.
    if not sum(len(text) for text in states):
        return 0.0
    together = np.concatenate([_scaled(text, token_norm) for text in states])
    wide = together.astype(np.float64)
    mean = wide.mean(axis=0)
    of_mean = np.sum(mean**2, axis=-1)
    of_all = np.mean(np.sum(wide**2, axis=-1), axis=0)
    # A layer of zeros has none either.
    shares = np.divide(of_mean, of_all, out=np.zeros_like(of_all), where=of_all > 0)
    return float(np.max(shares))


def _scaled(states: np.ndarray, token_norm: str) -> np.ndarray:
    """`glot_jax.graphs.stem.normalised` in float64; a state of zeros stays one."""
    if token_norm == "none":
        return states
    wide = states.astype(np.float64)
    norm = np.linalg.norm(wide, axis=-1, keepdims=True)
    if token_norm == "rms":
        norm = norm / np.sqrt(states.shape[-1])
    return np.divide(wide, norm, out=np.zeros_like(wide), where=norm > 0)


def texts_of(
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
    states_of: Callable[[int], np.ndarray],
    centre: np.ndarray,
    *,
    power: int,
) -> tuple[np.ndarray, int]:
    """Sum of (state - centre) ** power over the texts' states, and how many there are."""
    total = np.zeros(reader.token_shape)
    count = 0
    tokens = reader.text_lengths[texts]
    tokens = tokens.astype(np.int64)
    numbers = np.cumsum(tokens * centre.size)
    # A new piece begins wherever the running count passes a multiple of the chunk.
    chunk = numbers // _CHUNK
    passes = np.diff(chunk)
    cuts = np.flatnonzero(passes) + 1
    for piece in np.split(texts, cuts):
        states = np.concatenate([states_of(int(text)) for text in piece])
        count += len(states)
        distance = states.astype(np.float64) - centre
        powers = distance**power
        total += powers.sum(axis=0)
    return total, count

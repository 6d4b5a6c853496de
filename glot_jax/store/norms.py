"""How long the states of a layer are, by their position in a text; and which of them are sinks.

In the middle of many decoders one token or a few of every text, usually the first, have states
hundreds of times as long as the others and of one direction in all texts: attention sinks (Xiao et
al. 2023, arXiv 2309.17453; Sun et al. 2024, arXiv 2402.17762). They say nothing about the text.
Here a state is a sink if its norm is above ten times the median norm of its layer's other states.

Norms are counted while states are stored, exactly: in bins that are the norms' first sixteen bits
(as bfloat16 cuts them, so that a bin is less than a 128th wide), which add up over shards in any
order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.store.arrays import DTYPES
from glot_jax.store.integrity import REPAIR
from glot_jax.store.records import ShardRecord
from glot_jax.store.scaled_states import lengths_of_rows
from glot_jax.store.scaled_states import norms as scaled_norms

SINK_RATIO = 10.0
"""Norms above this many medians are sinks."""

_ROUNDS = 20
"""Of finding the median of what is no sink; two or three are enough for any model seen."""

POSITIONS = 8
"""Positions that are counted by themselves; those behind them are counted together."""


@dataclasses.dataclass(frozen=True)
class LayerNorms:
    """Norms of one layer's states."""

    counts: tuple[dict[int, int], ...]
    """Of positions 0, 1, .. POSITIONS - 1 and of all later ones: bin -> states."""
    totals: tuple[float, ...]
    """Sum of the norms at each of them."""

    @classmethod
    def of(cls, norms: np.ndarray, positions: np.ndarray) -> LayerNorms:
        """Count the norms of some states.

        Args:
            norms: float [tokens].
            positions: int [tokens], of each token in its text, from 0.
        """
        norms = np.ascontiguousarray(norms, np.float32)
        bins = norms.view(np.uint32) >> 16
        slots = np.minimum(positions, POSITIONS)
        counts = []
        totals = []
        for slot in range(POSITIONS + 1):
            here = slots == slot
            values, numbers = np.unique(bins[here], return_counts=True)
            counts.append(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
            # In float64: a sum over millions of tokens.
            totals.append(float(norms[here].sum(dtype=np.float64)))
        return cls(tuple(counts), tuple(totals))

    @classmethod
    def joined(cls, parts: Iterable[LayerNorms]) -> LayerNorms:
        """The norms of all parts together; of none there are none."""
        counts: list[dict[int, int]] = [{} for _ in range(POSITIONS + 1)]
        totals = [0.0] * (POSITIONS + 1)
        for part in parts:
            for slot, numbers in enumerate(part.counts):
                for key, number in numbers.items():
                    counts[slot][key] = counts[slot].get(key, 0) + number
                totals[slot] += part.totals[slot]
        ordered = [dict(sorted(numbers.items())) for numbers in counts]
        return cls(tuple(ordered), tuple(totals))

    def to_json(self) -> list[dict[str, Any]]:
        """An entry for each position: sum of the norms, and the counts by bin."""
        return [
            {"sum": total, "counts": {str(key): number for key, number in numbers.items()}}
            for numbers, total in zip(self.counts, self.totals, strict=True)
        ]

    @classmethod
    def from_json(cls, values: Sequence[Mapping[str, Any]]) -> LayerNorms:
        """What `to_json` returned."""
        counts = []
        for entry in values:
            numbers = {int(key): int(number) for key, number in entry["counts"].items()}
            if not all(0 <= key < 1 << 16 and 0 < numbers[key] < 1 << 48 for key in numbers):
                raise ValueError(f"no counts: {numbers}")
            counts.append(numbers)
        # The last one is that of all later positions.
        if len(counts) != POSITIONS + 1:
            raise ValueError(f"{len(counts)} positions")
        return cls(tuple(counts), tuple(float(entry["sum"]) for entry in values))

    @property
    def tokens(self) -> int:
        """How many states were counted."""
        return sum(sum(numbers.values()) for numbers in self.counts)

    def mean(self, slot: int) -> float | None:
        """Mean norm at a position, or behind all that are counted; None where no state is."""
        number = sum(self.counts[slot].values())
        return self.totals[slot] / number if number else None

    def median(self) -> float:
        """Median norm of the states that are no sinks; 0 of none."""
        return self._median_and_limit()[0]

    def limit(self) -> float | None:
        """The norm above which a state is a sink; None where none is one."""
        median, limit = self._median_and_limit()
        largest = max((max(numbers, default=0) for numbers in self.counts), default=0)
        # A median of zero is a layer of zeros, which has no sinks but nothing else either.
        if median == 0 or _value(largest) <= limit:
            return None
        return limit

    def sinks(self) -> dict[int, int]:
        """Position -> number of sinks there; POSITIONS stands for all later ones."""
        limit = self.limit()
        numbers_by_slot: dict[int, int] = {}
        if limit is None:
            return numbers_by_slot
        for slot, numbers in enumerate(self.counts):
            count = sum(number for key, number in numbers.items() if _value(key) > limit)
            if count:
                numbers_by_slot[slot] = count
        return numbers_by_slot

    def _median_and_limit(self) -> tuple[float, float]:
        # Over all positions: a layer has one limit.
        joint: dict[int, int] = {}
        for numbers in self.counts:
            for key, number in numbers.items():
                joint[key] = joint.get(key, 0) + number
        keys = np.array(sorted(joint), np.uint32)
        numbers = np.array([joint[int(key)] for key in keys], np.int64)
        values = _value(keys)
        # From the lower quartile on: in very short texts most states may be sinks, and the median
        # of all one of them.
        median = _weighted_quantile(values, numbers, 0.25)
        for _ in range(_ROUNDS):
            kept = values <= SINK_RATIO * median
            before = median
            median = _weighted_quantile(
                values[kept],
                numbers[kept],
                0.5,
            )
            if median == before:
                break
        return median, SINK_RATIO * median


def norms_of(
    states: np.ndarray,
    dtype: str,
    scales: np.ndarray | None = None,
    *,
    dim: int,
) -> np.ndarray:
    """Norms of stored states, float32 [tokens].

    Args:
        states: as they lie on the disk.
        dtype: their logical dtype.
        scales: float16, for int8 and int4 states.
        dim: width of a state.
    """
    if scales is not None:
        return scaled_norms(
            dtype,
            states,
            scales,
            dim,
        )
    # bfloat16 lies on the disk as its bits.
    values = states.view(DTYPES[dtype]) if dtype == "bfloat16" else states
    wide = values.astype(np.float32)
    return lengths_of_rows(wide)


def positions_in(lengths: np.ndarray) -> np.ndarray:
    """Position of each token in its text, int64 [sum of lengths]."""
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = np.repeat(ends - lengths, lengths)
    return np.arange(len(starts)) - starts


def layer_norms(shards: Iterable[ShardRecord], layer: int) -> LayerNorms | None:
    """Norms of a layer over some shards; None if one of them did not count them.

    Raises:
        UsageError: what a shard's record says of them is damaged.
    """
    parts = []
    for shard in shards:
        if shard.norms is None or str(layer) not in shard.norms:
            return None
        try:
            parts.append(LayerNorms.from_json(shard.norms[str(layer)]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UsageError(
                rule="the norms in a shard's record must be counts by position and bin",
                got=f"{type(error).__name__}: {error}",
                fix=REPAIR,
            ) from error
    return LayerNorms.joined(parts)


def _value(key: np.ndarray | int) -> np.ndarray:
    """The middle of a bin."""
    bits = np.asarray(key, np.uint32) << 16 | 0x8000
    return bits.view(np.float32).astype(np.float64)


def _weighted_quantile(
    values: np.ndarray,
    numbers: np.ndarray,
    share: float,
) -> float:
    if not len(values):
        return 0.0
    ends = np.cumsum(numbers)
    rank = max(1, int(np.ceil(share * ends[-1])))
    return float(values[np.searchsorted(ends, rank)])

"""Which rows form which batch: a pure function of (lengths, seed, step).

Resuming needs one integer. Padded lengths come from a few buckets chosen from the length histogram:
every bucket is one compiled shape.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

_ALIGNMENT = 4  # bounds are multiples of this many tokens


def choose_bounds(
    lengths: np.ndarray, buckets: int, *, longest: int | None = None
) -> tuple[int, ...]:
    """At most `buckets` padded lengths that minimise the padded tokens of rows with these lengths.

    Args:
        lengths: [rows] int, tokens of each row's longest text.
        buckets: shapes allowed.
        longest: length the last bound must hold even if no row here is as long (an evaluation
            split's longest text).

    Returns:
        Increasing bounds, multiples of 4, the last one at least the longest row.
    """
    aligned = _aligned(np.asarray(lengths, np.int64))
    if longest is not None:
        aligned = np.append(aligned, _aligned(np.array([longest], np.int64)))
    values, counts = np.unique(aligned, return_counts=True)
    rows_below = np.concatenate([[0], np.cumsum(counts)])
    # Dynamic programming over the distinct lengths. cost[j]: fewest padded tokens for the rows up
    # to values[j - 1], using the buckets allowed so far.
    cost = np.full(len(values) + 1, np.inf)
    cost[0] = 0.0
    index = np.arange(len(values))
    in_order = index[:, None] <= index
    choices = []
    for _ in range(min(buckets, len(values))):
        # table[i, j]: rows of values[i .. j - 1] all padded to values[j - 1].
        rows = rows_below[None, 1:] - rows_below[:-1, None]
        padded = cost[:-1, None] + rows * values[None, :]
        table = np.where(in_order, padded, np.inf)
        choices.append(table.argmin(axis=0))
        cost = np.concatenate([[0.0], table.min(axis=0)])
    # Walk back from the longest row: each choice says where the bucket before this one ends.
    bounds = []
    end = len(values)
    for choice in reversed(choices):
        if end == 0:
            break
        bounds.append(int(values[end - 1]))
        end = int(choice[end - 1])
    return tuple(reversed(bounds))


def _aligned(lengths: np.ndarray) -> np.ndarray:
    """Rounded up to a multiple of the alignment; nothing is shorter than one of them."""
    return np.maximum(1, -(-lengths // _ALIGNMENT)) * _ALIGNMENT


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of one batch and the length their texts are padded to."""

    rows: np.ndarray
    """[batch_size] int64 indices into the split; -1 fills the last, partial batch."""
    length: int


class BatchPlan:
    """Every batch of a run, by step.

    By length, rows of a bucket are batched together; what is left over in a bucket moves up to the
    next longer one. Otherwise rows meet whatever their length, and a batch is padded to the bucket
    of its longest. Either way an epoch has ceil(rows / batch_size) batches and at most one of them
    is partial.

    Args:
        rows: [n] int64, the rows of the split that take part.
        lengths: [n] int, tokens of each of these rows' longest text.
        bounds: padded lengths, increasing, the last at least max(lengths).
        batch_size: rows per batch.
        seed: of the shuffle, together with the epoch; None keeps rows in order (evaluation).
        by_length: batch rows of like length together.
    """

    def __init__(
        self,
        rows: np.ndarray,
        lengths: np.ndarray,
        bounds: tuple[int, ...],
        batch_size: int,
        seed: int | None,
        *,
        by_length: bool = True,
    ):
        if len(rows) == 0 or lengths.max(initial=0) > bounds[-1]:
            raise ValueError(
                f"a plan needs rows, and a bound for the longest; got {len(rows)} rows, bounds"
                f" {bounds}"
            )
        self.rows = np.asarray(rows, np.int64)
        self.lengths = lengths
        self.bounds = bounds
        self.batch_size = batch_size
        self.seed = seed
        self.by_length = by_length
        self.steps_per_epoch = -(-len(rows) // batch_size)
        # Two epochs: reading ahead crosses the end of one.
        self._epoch = functools.lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, step: int) -> Batch:
        """The batch of global step `step`, counted from 0."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def padded_tokens(self) -> int:
        """Tokens of one epoch's texts, padding of filled rows left out, for one text a row."""
        tokens = 0
        for batch in self._epoch(0):
            tokens += batch.length * int((batch.rows >= 0).sum())
        return tokens

    def _plan_epoch(self, epoch: int) -> list[Batch]:
        order = np.arange(len(self.rows))
        if self.seed is None:
            return self._batches(order)
        # A generator per epoch: any epoch can be planned without those before it.
        generator = np.random.default_rng((self.seed, epoch))
        batches = self._batches(generator.permutation(order))
        if not self.by_length:
            return batches
        # By length the batches come bucket by bucket; training must not see them in that order.
        return [batches[index] for index in generator.permutation(len(batches))]

    def _batches(self, order: np.ndarray) -> list[Batch]:
        """Batches of the rows in this order (indices into the plan's rows)."""
        if not self.by_length:
            starts = range(0, len(order), self.batch_size)
            return [self._batch(order[first : first + self.batch_size]) for first in starts]
        bucket = np.searchsorted(self.bounds, self.lengths[order])
        batches = []
        waiting = order[:0]
        for index, bound in enumerate(self.bounds):
            # What was left over in the bucket before moves up into this one, ahead of its rows.
            waiting = np.concatenate([waiting, order[bucket == index]])
            full = len(waiting) // self.batch_size * self.batch_size
            for chunk in waiting[:full].reshape(-1, self.batch_size):
                batches.append(Batch(self.rows[chunk], bound))
            waiting = waiting[full:]
        if len(waiting):
            batches.append(self._batch(waiting))
        return batches

    def _batch(self, chosen: np.ndarray) -> Batch:
        """One batch of these rows, given by their index in the plan.

        It is padded to the bucket of the longest, and filled with -1 where it is short of rows.
        """
        rows = np.full(self.batch_size, -1, np.int64)
        rows[: len(chosen)] = self.rows[chosen]
        longest = self.lengths[chosen].max()
        bucket = int(np.searchsorted(self.bounds, longest))
        return Batch(rows, self.bounds[bucket])


def longest_of_batches(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """Longest row of each batch when rows meet by chance.

    Buckets are chosen from it if batches ignore length. A fixed shuffle stands for all of them, so
    that seeds of a run share their shapes.
    """
    order = np.random.default_rng(0).permutation(len(lengths))
    starts = np.arange(0, len(lengths), batch_size)
    return np.maximum.reduceat(np.asarray(lengths)[order], starts)

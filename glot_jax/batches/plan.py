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
    lengths: np.ndarray,
    buckets: int,
    *,
    longest: int | None = None,
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
    every = np.asarray(lengths, np.int64)
    if longest is not None:
        # As one more row: the last bound then holds it, at the cost of a single row.
        every = np.append(every, longest)
    aligned = _aligned(every)
    values, counts = np.unique(aligned, return_counts=True)
    up_to = np.cumsum(counts)
    rows_below = np.concatenate([[0], up_to])
    # Dynamic programming over the distinct lengths. cost[j]: fewest padded tokens for the rows up
    # to values[j - 1], using the buckets allowed so far.
    ends = len(values) + 1
    cost = np.full(ends, np.inf)
    cost[0] = 0.0
    index = np.arange(len(values))
    in_order = index[:, None] <= index
    choices = []
    # More buckets than distinct lengths save nothing.
    rounds = min(buckets, len(values))
    for _ in range(rounds):
        # table[i, j]: rows of values[i .. j - 1] all padded to values[j - 1].
        below_j = rows_below[None, 1:]
        below_i = rows_below[:-1, None]
        rows = below_j - below_i
        bucket = rows * values[None, :]
        padded = cost[:-1, None] + bucket
        table = np.where(in_order, padded, np.inf)
        choices.append(table.argmin(axis=0))
        fewest = table.min(axis=0)
        cost = np.concatenate([[0.0], fewest])
    # Walk back from the longest row: each choice says where the bucket before this one ends.
    bounds = []
    end = len(values)
    for choice in reversed(choices):
        if end == 0:
            break
        last = end - 1
        bounds.append(int(values[last]))
        end = int(choice[last])
    return tuple(reversed(bounds))


def _aligned(lengths: np.ndarray) -> np.ndarray:
    """Rounded up to a multiple of the alignment; nothing is shorter than one of them."""
    steps = -(-lengths // _ALIGNMENT)
    return np.maximum(1, steps) * _ALIGNMENT


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
        # Of our own making, so no UsageError: who builds a plan has chosen the bounds.
        fits = lengths.max(initial=0) <= bounds[-1]
        if len(rows) == 0 or not fits:
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
        cached = functools.lru_cache(maxsize=2)
        self._epoch = cached(self._plan_epoch)

    def batch(self, step: int) -> Batch:
        """The batch of global step `step`, counted from 0."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def padded_tokens(self) -> int:
        """Tokens of one epoch's texts, padding of filled rows left out, for one text a row."""
        tokens = 0
        for batch in self._epoch(0):
            is_real = batch.rows >= 0
            tokens += batch.length * int(is_real.sum())
        return tokens

    def _plan_epoch(self, epoch: int) -> list[Batch]:
        order = np.arange(len(self.rows))
        if self.seed is None:
            return self._batches(order)
        # A generator per epoch: any epoch can be planned without those before it.
        generator = np.random.default_rng((self.seed, epoch))
        shuffled = generator.permutation(order)
        batches = self._batches(shuffled)
        if not self.by_length:
            return batches
        # By length the batches come bucket by bucket; training must not see them in that order.
        turns = generator.permutation(len(batches))
        return [batches[index] for index in turns]

    def _batches(self, order: np.ndarray) -> list[Batch]:
        """Batches of the rows in this order (indices into the plan's rows)."""
        if not self.by_length:
            batches = []
            for first in range(0, len(order), self.batch_size):
                end = first + self.batch_size
                chosen = order[first:end]
                batches.append(self._batch(chosen))
            return batches
        lengths = self.lengths[order]
        bucket = np.searchsorted(self.bounds, lengths)
        batches = []
        waiting = order[:0]
        for index, bound in enumerate(self.bounds):
            # What was left over in the bucket before moves up into this one, ahead of its rows.
            of_bucket = order[bucket == index]
            waiting = np.concatenate([waiting, of_bucket])
            whole_batches = len(waiting) // self.batch_size
            full = whole_batches * self.batch_size
            chunks = waiting[:full].reshape(-1, self.batch_size)
            for chunk in chunks:
                rows = self.rows[chunk]
                batches.append(Batch(rows, bound))
            waiting = waiting[full:]
        if len(waiting):
            batches.append(self._batch(waiting))
        return batches

    def _batch(self, chosen: np.ndarray) -> Batch:
        """One batch of these rows, given by their index in the plan.

        It is padded to the bucket of the longest, and filled with -1 where it is short of rows.
        """
        rows = np.full(self.batch_size, -1, np.int64)
        count = len(chosen)
        rows[:count] = self.rows[chosen]
        longest = self.lengths[chosen].max()
        bucket = int(np.searchsorted(self.bounds, longest))
        return Batch(rows, self.bounds[bucket])


def longest_of_batches(
    lengths: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Longest row of each batch when rows meet by chance.

    Buckets are chosen from it if batches ignore length. A fixed shuffle stands for all of them, so
    that seeds of a run share their shapes.
    """
    generator = np.random.default_rng(0)
    order = generator.permutation(len(lengths))
    shuffled = np.asarray(lengths)[order]
    # The maximum from each start to the next, the last one to the end.
    starts = np.arange(0, len(lengths), batch_size)
    return np.maximum.reduceat(shuffled, starts)

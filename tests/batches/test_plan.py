"""The batch plan: every row once an epoch, whatever the lengths, and the same at every asking."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glot_jax.batches.plan import BatchPlan, choose_bounds, longest_of_batches

lengths_of_rows = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(np.array)


def padded(lengths, bounds):
    return sum(min(bound for bound in bounds if bound >= length) for length in lengths)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(lengths_of_rows, st.integers(1, 4))
def test_no_other_bounds_pad_less(lengths, buckets):
    bounds = choose_bounds(lengths, buckets)
    assert len(bounds) <= buckets
    assert list(bounds) == sorted(set(bounds))
    assert bounds[-1] >= lengths.max()
    assert all(bound % 4 == 0 for bound in bounds)
    values = sorted({max(4, -(-int(length) // 4) * 4) for length in lengths})
    best = min(
        padded(lengths, (*chosen, values[-1]))
        for count in range(min(buckets, len(values)))
        for chosen in itertools.combinations(values[:-1], count)
    )
    assert padded(lengths, bounds) == best


def test_the_last_bound_holds_the_longest_evaluation_text():
    assert choose_bounds(np.array([3, 3, 3, 9]), 2, longest=31) == (4, 32)
    assert choose_bounds(np.array([3, 3, 3, 9]), 3, longest=31) == (4, 12, 32)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    lengths_of_rows,
    st.integers(1, 9),
    st.integers(0, 5),
    st.sampled_from([None, 0, 7]),
    st.booleans(),
)
def test_every_row_once_an_epoch(lengths, batch_size, epoch, seed, by_length):
    rows = np.arange(len(lengths)) * 3 + 1
    plan = BatchPlan(
        rows, lengths, choose_bounds(lengths, 3), batch_size, seed, by_length=by_length
    )
    assert plan.steps_per_epoch == -(-len(lengths) // batch_size)
    length_of = dict(zip(rows.tolist(), lengths.tolist(), strict=True))
    seen, partial = [], 0
    for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
        batch = plan.batch(step)
        real = batch.rows[batch.rows >= 0].tolist()
        assert len(batch.rows) == batch_size
        assert len(real) > 0
        assert batch.length in plan.bounds
        assert all(length_of[row] <= batch.length for row in real)
        partial += len(real) < batch_size
        seen += real
    assert sorted(seen) == rows.tolist()
    assert partial <= 1


def test_a_step_is_a_function_of_seed_and_step():
    lengths = np.random.default_rng(0).integers(1, 30, 100)
    bounds = (8, 16, 32)
    first = BatchPlan(np.arange(100), lengths, bounds, 8, 1)
    again = BatchPlan(np.arange(100), lengths, bounds, 8, 1)
    other = BatchPlan(np.arange(100), lengths, bounds, 8, 2)
    steps = [40, 3, 0, 25, 3, 41]  # out of order, over several epochs
    straight = [first.batch(step).rows for step in range(42)]
    assert all(np.array_equal(again.batch(step).rows, straight[step]) for step in steps)
    assert any(not np.array_equal(other.batch(step).rows, straight[step]) for step in steps)
    assert not np.array_equal(straight[0], straight[first.steps_per_epoch])


def test_evaluation_keeps_rows_in_order_within_a_length():
    plan = BatchPlan(np.arange(6), np.array([2, 9, 3, 1, 8, 9]), (4, 12), 2, None)
    assert [plan.batch(step).rows.tolist() for step in range(3)] == [[0, 2], [3, 1], [4, 5]]
    assert [plan.batch(step).length for step in range(3)] == [4, 12, 12]


def test_padded_tokens_are_those_of_real_rows():
    plan = BatchPlan(np.arange(3), np.array([2, 9, 3]), (4, 12), 2, None)
    assert plan.padded_tokens() == 4 + 4 + 12


def test_a_plan_without_room_is_an_error():
    with pytest.raises(ValueError, match="a bound for the longest"):
        BatchPlan(np.arange(1), np.array([9]), (4,), 2, None)


def test_shuffled_batches_ignore_length_and_are_padded_to_their_longest():
    lengths = np.array([2] * 60 + [30] * 4)
    bounds = choose_bounds(longest_of_batches(lengths, 8), 2)
    plan = BatchPlan(np.arange(64), lengths, bounds, 8, 0, by_length=False)
    batches = [plan.batch(step) for step in range(8)]
    mixed = [set(lengths[batch.rows].tolist()) for batch in batches]
    assert {2, 30} in mixed
    for batch in batches:
        assert batch.length == min(bound for bound in bounds if bound >= lengths[batch.rows].max())
    assert {batch.length for batch in batches} == {4, 32}
    # By length, the four long rows share a batch.
    together = BatchPlan(np.arange(64), lengths, bounds, 8, 0)
    assert sum(together.batch(step).length == 32 for step in range(8)) == 1


def test_longest_of_batches():
    lengths = np.arange(10)
    longest = longest_of_batches(lengths, 4)
    assert len(longest) == 3
    assert longest.max() == 9
    assert longest_of_batches(lengths, 100).tolist() == [9]
    assert sorted(longest_of_batches(lengths, 1).tolist()) == lengths.tolist()

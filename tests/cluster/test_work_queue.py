"""A queue of work for workers that may die, at every point and in every order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dying_pool import DyingPool

from glot_jax.cluster.work_queue import Failed, Limits, Lost, run
from glot_jax.errors import UsageError


@settings(max_examples=300, deadline=None)
@given(
    choices=st.lists(st.integers(0, 1000), max_size=60),
    items=st.integers(0, 9),
    workers=st.integers(1, 4),
    deaths=st.integers(0, 12),
)
def test_every_item_is_done_once_whoever_dies_when(choices, items, workers, deaths):
    pool = DyingPool(choices, deaths)
    work = [[number] for number in range(items)]
    done = list(run(work, pool, workers, Limits(retries=100)))
    assert sorted(item for item, _ in done) == work
    assert all(result == ("done", item) for item, result in done)


def test_items_are_drawn_when_somebody_is_idle():
    drawn = []

    def items():
        for number in range(20):
            drawn.append(number)
            yield number

    pool = DyingPool([], 0)
    for count, _ in enumerate(run(items(), pool, 2), 1):
        assert len(drawn) <= count + 2


def test_what_kills_every_worker_ends_the_run_and_is_named():
    class Poisoned(DyingPool):
        def wait(self, seconds):
            for worker, item in self.items.items():
                if item == "bad":
                    self.ready.discard(worker)
                    del self.items[worker]
                    return [Lost(worker, "out of memory")]
            return super().wait(seconds)

    pool = Poisoned([], 0)
    with pytest.raises(UsageError, match=r"bad, lost 4 times; the last time: out of memory"):
        list(run(["good", "bad", "good too"], pool, 2))
    assert pool.submitted.count("bad") == 4


class Stillborn(DyingPool):
    """All workers die before they are ready but those of these numbers."""

    def __init__(self, *living):
        super().__init__([], 0)
        self.living = living

    def wait(self, seconds):
        for worker in self.joining:
            if worker not in self.living:
                self.joining.remove(worker)
                return [Lost(worker, f"no memory for {worker}")]
        return super().wait(seconds)


def test_workers_that_all_die_before_they_are_ready_end_the_run():
    pool = Stillborn()
    message = "until it is ready; got 4 that died before.* the last one: no memory for 7"
    with pytest.raises(UsageError, match=message):
        list(run(["one"], pool, 2))
    # Three more in each place.
    assert next(pool.numbers) == 8


def test_the_living_go_on_without_those_that_die_before_they_are_ready():
    pool = Stillborn(2)
    assert len(list(run(range(9), pool, 3))) == 9
    assert next(pool.numbers) <= 11
    # One that lives after all.
    pool = Stillborn(3)
    assert len(list(run(range(9), pool, 1))) == 9
    assert next(pool.numbers) == 4


def test_an_error_of_the_code_is_not_tried_again():
    class Raising(DyingPool):
        def wait(self, seconds):
            for worker in self.items:
                return [Failed(worker, UsageError("a rule", "x", "A fix."))]
            return super().wait(seconds)

    pool = Raising([], 0)
    with pytest.raises(UsageError, match="a rule; got x"):
        list(run(["one"], pool, 1))
    assert pool.submitted == ["one"]


def test_a_cluster_without_a_worker_is_waited_for_and_then_given_up():
    class Empty(DyingPool):
        def wait(self, seconds):
            assert seconds > 0
            return []

    seconds = itertools.count(0, 60)
    with pytest.raises(UsageError, match="none for 11 minutes, 2 asked for; nobody is free"):
        list(run(["one"], Empty([], 0), 2, clock=lambda: float(next(seconds))))


def test_nobody_is_asked_for_when_nothing_is_left():
    pool = DyingPool([], 0)
    assert list(run([], pool, 3)) == []
    # Those that were asked for at the start, and no other.
    assert next(pool.numbers) == 3

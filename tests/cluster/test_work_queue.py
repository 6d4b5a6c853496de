"""A queue of work for workers that may die, at every point and in every order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glot_jax.errors import UsageError
from glot_jax.cluster.work_queue import Done, Failed, Joined, Limits, Lost, run


class DyingPool:
    """Workers that join, work and die as they are told: a choice at each wait.

    Args:
        choices: numbers; which worker something happens to, and what.
        deaths: how many may still die.
    """

    def __init__(self, choices, deaths):
        self.choices = iter(choices)
        self.deaths = deaths
        self.numbers = itertools.count()
        self.joining: list[int] = []
        self.ready: set[int] = set()
        self.items: dict[int, object] = {}
        self.submitted: list[object] = []

    def spawn(self):
        number = next(self.numbers)
        self.joining.append(number)
        return number

    def submit(self, worker, item):
        assert worker in self.ready
        assert worker not in self.items, "a worker has one item at a time"
        self.items[worker] = item
        self.submitted.append(item)

    def outlook(self):
        return "nobody is free"

    def wait(self, seconds):
        assert seconds > 0
        alive = [*self.joining, *sorted(self.ready)]
        if not alive:
            return []
        # Without choices left nobody dies, and everything comes to its end.
        choice = next(self.choices, None)
        worker = alive[0 if choice is None else choice % len(alive)]
        dies = choice is not None and self.deaths > 0 and choice // len(alive) % 3 == 0
        if dies:
            self.deaths -= 1
            self.ready.discard(worker)
            if worker in self.joining:
                self.joining.remove(worker)
            self.items.pop(worker, None)
            return [Lost(worker, "killed")]
        if worker in self.joining:
            self.joining.remove(worker)
            self.ready.add(worker)
            return [Joined(worker)]
        for number in [worker, *sorted(self.items)]:
            if number in self.items:
                return [Done(number, ("done", self.items.pop(number)))]
        return []


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

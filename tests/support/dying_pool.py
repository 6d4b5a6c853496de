"""Workers that die on command, without processes."""

from __future__ import annotations

import itertools
from typing import Any

from glot_jax.cluster.work_queue import Done, Joined, Lost


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

    def work(self, item: Any) -> Any:  # noqa: ANN401 - whatever a test makes of its items
        return ("done", item)

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
                return [Done(number, self.work(self.items.pop(number)))]
        return []

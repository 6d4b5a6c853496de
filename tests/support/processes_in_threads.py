"""Processes of a run as threads, which exchange their messages in memory instead of by devices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from glot_jax.mesh import processes
from glot_jax.mesh.processes import Processes

_PATIENCE = 20  # seconds


def run_together(
    monkeypatch: pytest.MonkeyPatch, count: int, work: Callable[[Processes], Any]
) -> list[Any]:
    """What `work` returns or raises in each of `count` processes."""
    barrier = threading.Barrier(count)
    sent: list[Any] = [None] * count
    results: list[Any] = [None] * count
    numbers = threading.local()

    def all_of(message: object) -> list[Any]:
        sent[numbers.own] = message
        barrier.wait(_PATIENCE)
        answers = list(sent)
        # Nobody writes the next one before all have read these.
        barrier.wait(_PATIENCE)
        return answers

    def process(number: int) -> None:
        numbers.own = number
        try:
            results[number] = work(Processes(number, count))
        except BaseException as error:
            results[number] = error

    monkeypatch.setattr(processes, "_all_of", all_of)
    threads = [threading.Thread(target=process, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results

"""What processes tell one another, and that an error of one is an error of all."""

from __future__ import annotations

import itertools
import json
import socket

import numpy as np
import pytest
from support.processes_in_threads import run_together

from glot_jax.errors import UsageError
from glot_jax.mesh import processes
from glot_jax.mesh.processes import ALONE, Processes


class Damaged(UsageError):
    pass


def broken(number: int) -> UsageError:
    return UsageError(f"rule {number}", "this", "Fix it.")


def test_a_process_that_is_alone_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(processes, "_all_of", None)
    assert ALONE.first
    assert not ALONE.several
    assert ALONE.gather(3) == [3]
    assert ALONE.from_first({"a": 1}) == {"a": 1}
    error = broken(0)
    with pytest.raises(UsageError) as raised, ALONE.agree():
        raise error
    assert raised.value is error


def test_values_come_in_the_order_of_the_processes(monkeypatch):
    def work(own: Processes) -> list:
        return [own.gather(own.number), own.from_first(own.number + 5), own.first]

    assert run_together(monkeypatch, 3, work) == [
        [[0, 1, 2], 5, True],
        [[0, 1, 2], 5, False],
        [[0, 1, 2], 5, False],
    ]


@pytest.mark.parametrize("failing", list(itertools.product([None, 0, 1, 2], repeat=2)))
def test_an_error_of_one_ends_all_wherever_it_comes(monkeypatch, failing):
    """Of two processes, each fails before the first exchange, between two of them, or not."""

    def work(own: Processes) -> int:
        fails_at = failing[own.number]
        with own.agree():
            for point in range(3):
                if fails_at == point:
                    raise broken(own.number)
                own.gather(point)
        return own.number

    results = run_together(monkeypatch, 2, work)
    moments = [moment for moment in failing if moment is not None]
    if not moments:
        assert results == [0, 1]
        return
    # Whoever fails first; of both at once the first process.
    culprit = failing.index(min(moments))
    both = failing[0] == failing[1]
    where = "" if both else f" (process {culprit} of 2, on {socket.gethostname()})"
    for error in results:
        assert isinstance(error, UsageError)
        assert str(error) == f"rule {culprit}; got this{where}. Fix it."


def test_after_an_error_the_processes_are_still_in_step(monkeypatch):
    def fails(own: Processes) -> None:
        with own.agree(Damaged):
            if own.number == 1:
                raise Damaged("rule", "this", "Fix it.")
            own.gather(1)
            own.gather(2)

    def work(own: Processes) -> list:
        with pytest.raises(Damaged):
            fails(own)
        return own.gather(own.number)

    assert run_together(monkeypatch, 3, work) == [[0, 1, 2]] * 3


def test_a_mistake_of_ours_keeps_its_traceback_where_it_is(monkeypatch):
    def work(own: Processes) -> None:
        with own.agree(), own.agree():
            if own.number == 1:
                raise KeyError("x")

    first, second = run_together(monkeypatch, 2, work)
    assert isinstance(first, UsageError)
    assert "KeyError: 'x' (process 1 of 2" in str(first)
    assert isinstance(second.__cause__, KeyError)


def test_what_all_have_agreed_upon_is_known(monkeypatch):
    def work(own: Processes) -> list[bool]:
        known = []
        for block in (own.agree, own.same_everywhere):
            try:
                with block():
                    raise broken(0)
            except UsageError as error:
                known.append(own.is_agreed(error))
        return [*known, own.is_agreed(broken(0))]

    assert run_together(monkeypatch, 2, work) == [[True, True, False]] * 2


@pytest.mark.parametrize("size", [0, 1, 1000, 1010, 1024, 5000])
def test_messages_of_any_length_arrive_whole(monkeypatch, size):
    """One process has a text of this size, the other a short one: both send frames of one size."""
    from jax.experimental import multihost_utils

    other, sizes = {"value": "short"}, []

    def gathered(frame: np.ndarray) -> np.ndarray:
        sizes.append(len(frame))
        content = json.dumps(other).encode()
        whole = len(content).to_bytes(4, "big") + content
        second = np.zeros_like(frame)
        second[: len(whole)] = np.frombuffer(whole, np.uint8)
        return np.stack([frame, second])

    monkeypatch.setattr(multihost_utils, "process_allgather", gathered)
    text = "ä" * size
    assert Processes(0, 2).gather(text) == [text, "short"]
    assert len(sizes) == (1 if size <= 1 else 2)

"""How a process ends that others wait for."""

from __future__ import annotations

import pytest

from glot_jax.errors import UsageError
from glot_jax.mesh import ending
from glot_jax.mesh.ending import ending_together
from glot_jax.mesh.processes import ALONE, Processes

AGAIN = "train.py --resume run"


class Ended(BaseException):
    """In place of the end of the test's own process."""


@pytest.fixture(autouse=True)
def codes(monkeypatch) -> list[int]:
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        raise Ended

    monkeypatch.setattr(ending.os, "_exit", end)
    return ended


def leave(error: BaseException, processes: Processes) -> None:
    with ending_together(processes, AGAIN):
        raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("rule", "this", "Fix it."), 2, "error: rule; got this. Fix it."),
        (KeyError("x"), 1, "Traceback"),
        (KeyboardInterrupt(), 130, ""),
        (
            ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer\nmore"),
            1,
            "error: process 1 of 2 has lost another one (UNKNOWN: Gloo all-reduce failed:"
            " Connection closed by peer); when all have ended, go on with train.py --resume run",
        ),
        # What orbax makes of it: nothing is wrong with the checkpoint.
        (
            UsageError("a checkpoint must be readable", "10: waiting at barrier 'x'", "Free it."),
            1,
            "error: process 1 of 2 has lost another one (a checkpoint must be readable",
        ),
    ],
)
def test_an_error_of_one_process_ends_it_at_once(codes, capsys, error, code, said):
    with pytest.raises(Ended):
        leave(error, Processes(1, 2))
    assert codes == [code]
    assert capsys.readouterr().err.startswith(said)
    # Alone nobody waits for it.
    with pytest.raises(type(error)):
        leave(error, ALONE)
    assert codes == [code]


def test_what_all_agreed_upon_is_raised(codes):
    processes = Processes(0, 2)
    error = UsageError("rule", "this", "Fix it.")
    with pytest.raises(UsageError), processes.same_everywhere():
        raise error
    # Ctrl-C of all of them has a message; SIGTERM's end is an exit.
    for agreed in (error, KeyboardInterrupt("stopped"), SystemExit(143)):
        with pytest.raises(type(agreed)):
            leave(agreed, processes)
    assert codes == []

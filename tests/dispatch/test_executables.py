"""Programs on other threads: compiled once, first come first, and nothing left behind."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import pytest

from glot_jax.dispatch.executables import Executables


def build(number: float) -> jax.stages.Compiled:
    return jax.jit(lambda values: values + number).lower(jnp.zeros(2)).compile()


def test_what_is_compiled_ahead_is_not_compiled_again():
    executables = Executables()
    built = []

    def counting() -> jax.stages.Compiled:
        built.append(threading.current_thread())
        return build(1)

    executables.ahead(("one",), counting)
    executables.ahead(("one",), counting)
    program = executables.get(("one",), counting)
    assert program is executables.get(("one",), counting)
    assert len(built) == len(executables) == 1
    assert built[0] is not threading.main_thread()
    assert program(jnp.zeros(2)).tolist() == [1, 1]


def test_a_program_that_nobody_asked_for_ahead_is_compiled_here():
    executables = Executables()
    threads = []

    def counting() -> jax.stages.Compiled:
        threads.append(threading.current_thread())
        return build(2)

    executables.get(("two",), counting)
    assert threads == [threading.main_thread()]
    assert executables.compile_seconds > 0
    assert list(executables.finished()) == [("two",)]


def test_waiting_behind_others_is_no_reason_to_wait():
    executables = Executables()
    begun, release = threading.Event(), threading.Event()

    def slow() -> jax.stages.Compiled:
        begun.set()
        release.wait()
        return build(0)

    # As many as there are threads, whatever the machine, and one more behind them.
    for number in range(8):
        executables.ahead(("slow", number), slow)
    executables.ahead(("behind",), lambda: build(3))
    begun.wait()
    # It would never come if the thread that needs it waited for its turn.
    assert executables.get(("behind",), lambda: build(4))(jnp.zeros(2)).tolist() == [4, 4]
    executables.cancel()
    release.set()
    # Those that were not begun are as if nobody had asked for them.
    assert len(executables) < 9


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_is_raised_where_the_program_is_needed(ahead):
    executables = Executables()

    def broken() -> jax.stages.Compiled:
        raise ValueError("does not compile")

    if ahead:
        executables.ahead(("broken",), broken)
    with pytest.raises(ValueError, match="does not compile"):
        executables.get(("broken",), broken)
    assert not executables.finished()


def test_what_the_cache_had_is_counted(monkeypatch):
    # Read on the thread that compiles, whichever it is.
    read = {"main": 0}
    monkeypatch.setattr("glot_jax.dispatch.executables.hits_of_thread", lambda: read["main"])

    def from_cache() -> jax.stages.Compiled:
        read["main"] += 1
        return build(1)

    executables = Executables()
    executables.get(("read",), from_cache)
    executables.get(("compiled",), lambda: build(2))
    assert executables.from_cache == 1

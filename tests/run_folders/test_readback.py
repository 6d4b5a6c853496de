"""The first checkpoint of a run is read back, once, beside the run, and ends it if that fails."""

from __future__ import annotations

import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from support import runs
from support.dispatches import one_at_a_time
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.run_folders import checkpoint
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.orbax_files import Damaged
from glot_jax.run_folders.readback import Readback
from glot_jax.training import train


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "store")


class Nothing:
    """A readback that reads nothing."""

    def __init__(self, read):
        pass

    def check(self):
        pass

    wait = check


def unreadable(*_):
    """In the place of `Checkpoints._read`."""
    raise Damaged("ValueError: NOT_FOUND")


def watch_reads(monkeypatch) -> list[tuple[int, bool, set[type]]]:
    """A list of every checkpoint that is read from now on.

    Step, whether by the main thread, and what its arrays are.
    """
    original = Checkpoints._read
    reads: list[tuple[int, bool, set[type]]] = []

    def watching(self, step, target):
        state = original(self, step, target)
        kinds = {type(leaf) for leaf in jax.tree.leaves({**state, "key": None})}
        reads.append((step, threading.current_thread() is threading.main_thread(), kinds))
        return state

    monkeypatch.setattr(Checkpoints, "_read", watching)
    return reads


@pytest.mark.parametrize(("minutes", "first"), [(0, 5), (runs.EVERY_STEP, 1)])
def test_it_happens_once_on_a_thread_of_its_own_and_changes_no_number(
    store, tmp_path, monkeypatch, minutes, first
):
    monkeypatch.setattr(checkpoint, "Readback", Nothing)
    train(runs.config(store, tmp_path / "without", checkpoint_minutes=minutes), quiet=True)
    monkeypatch.undo()
    reads = watch_reads(monkeypatch)
    train(runs.config(store, tmp_path / "with", checkpoint_minutes=minutes), quiet=True)
    assert reads == [
        (first, False, {np.ndarray})
    ]  # on the host: a device may have no room for two states
    assert (tmp_path / "with/metrics.jsonl").read_bytes() == (
        tmp_path / "without/metrics.jsonl"
    ).read_bytes()
    runs.assert_same_run(tmp_path / "with", tmp_path / "without")


def test_the_loop_does_not_wait_for_it(store, tmp_path, monkeypatch):
    """Steps go on while the first checkpoint is being read."""
    original = Checkpoints._read
    reading = threading.Event()
    later = threading.Event()
    steps = []

    def slow(self, step, target):
        reading.set()
        assert later.wait(20)
        return original(self, step, target)

    from glot_jax.training.steps import Steps

    one_at_a_time(monkeypatch)
    one = Steps.train_block

    def counting(self, state, block):
        steps.append(int(state["step"]))
        if len(steps) == 9:
            assert reading.wait(20)
            later.set()
        return one(self, state, block)

    monkeypatch.setattr(Checkpoints, "_read", slow)
    monkeypatch.setattr(Steps, "train_block", counting)
    train(runs.config(store, tmp_path / "run"), quiet=True)
    assert len(steps) == 15


def test_a_first_checkpoint_that_cannot_be_read_ends_the_run(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "_read", unreadable)
    with pytest.raises(
        UsageError,
        match=(
            r"first checkpoint .* must be readable; got .*checkpoints/1: ValueError: NOT_FOUND."
            r" The run has stopped"
        ),
    ):
        train(runs.config(store, tmp_path / "run", checkpoint_minutes=runs.EVERY_STEP), quiet=True)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["1"]
    assert not (tmp_path / "run/summary.json").exists()


def test_between_two_saves_it_ends_the_run_at_the_next_line_of_the_log(
    store, tmp_path, monkeypatch
):
    failed = threading.Event()

    class Told(Readback):
        def _work(self):
            super()._work()
            failed.set()

    from glot_jax.training.steps import Steps

    one_at_a_time(monkeypatch)
    one, steps = Steps.train_block, []

    def counting(self, state, block):
        steps.append(int(state["step"]))
        assert len(steps) <= 5 or failed.wait(20)
        return one(self, state, block)

    monkeypatch.setattr(checkpoint, "Readback", Told)
    monkeypatch.setattr(Steps, "train_block", counting)
    monkeypatch.setattr(Checkpoints, "_read", unreadable)
    with pytest.raises(UsageError, match="first checkpoint"):
        train(runs.config(store, tmp_path / "run", log_every=1), quiet=True)
    assert len(steps) == 6  # the checkpoint is that of step 5


def test_arrays_that_are_not_what_was_saved_end_the_run(store, tmp_path, monkeypatch):
    original = Checkpoints._read

    def changed(leaf):
        return leaf + 1 if getattr(leaf, "ndim", 0) == 2 else leaf

    def flipped(self, step, target):
        return jax.tree.map(changed, original(self, step, target))

    monkeypatch.setattr(Checkpoints, "_read", flipped)
    with pytest.raises(
        UsageError, match=r"first checkpoint .* arrays are not what was saved, the first .*kernel"
    ):
        train(runs.config(store, tmp_path / "run"), quiet=True)


def test_what_it_found_is_raised_once():
    def broken():
        raise UsageError("rule", "got", "fix")

    readback = Readback(broken)
    with pytest.raises(UsageError, match="rule"):
        readback.wait()
    readback.wait()
    readback.check()

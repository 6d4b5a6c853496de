"""SIGTERM and Ctrl-C while a run trains.

The step in hand is finished and saved, and the run continues bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from pathlib import Path

import pytest
from jax.experimental import multihost_utils
from support import runs
from support.dispatches import one_at_a_time
from support.synthetic_stores import make_store

from glot_jax.cli import main
from glot_jax.dispatch.pace import Pace
from glot_jax.mesh.processes import Processes
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.training import steps, train, train_seeds
from glot_jax.training.joint import train_runs
from glot_jax.training.stopping import StopSignals

STEPS, EPOCH = 15, 5


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="session")
def undisturbed(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(runs.config(store, out), quiet=True)
    return out


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def signal_in(
    monkeypatch, what: str, number: signal.Signals, *, at: int, times: int = 1
) -> list[int]:
    """This process gets the signal in its `at`-th call of that method of `Steps`.

    Returns the calls so far.
    """
    one_at_a_time(monkeypatch)
    original, calls = getattr(steps.Steps, what), []

    def signalled(self, *arguments):
        calls.append(len(calls) + 1)
        if calls[-1] == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(steps.Steps, what, signalled)
    return calls


def latest(run: Path) -> int | None:
    with Checkpoints(run) as checkpoints:
        return checkpoints.latest_step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 7, 9])
def test_a_signal_finishes_and_saves_the_step_in_hand(
    store, undisturbed, tmp_path, monkeypatch, capsys, number, at
):
    calls = signal_in(monkeypatch, "train_block", number, at=at)
    with pytest.raises(KeyboardInterrupt if number is signal.SIGINT else SystemExit) as raised:
        train(runs.config(store, tmp_path / "run"))
    assert len(calls) == at
    assert latest(tmp_path / "run") == at
    message = (
        f"{number.name}: stopped after step {at} of {STEPS}, which is saved; continue with train.py"
        f" --resume {tmp_path}/run"
    )
    assert capsys.readouterr().err.splitlines()[-1] == message
    assert raised.value.args == ((message,) if number is signal.SIGINT else (143,))
    monkeypatch.undo()
    runs.resume(tmp_path / "run")
    runs.assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("what", "at"), [("train_block", EPOCH), ("judge_block", 1)])
def test_a_signal_at_the_end_of_an_epoch_waits_for_its_evaluation(
    store, undisturbed, tmp_path, monkeypatch, what, at
):
    signal_in(monkeypatch, what, signal.SIGTERM, at=at)
    with pytest.raises(SystemExit):
        train(runs.config(store, tmp_path / "run"), quiet=True)
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest_step == checkpoints.best_step == EPOCH
    monkeypatch.undo()
    runs.resume(tmp_path / "run")
    runs.assert_same_run(tmp_path / "run", undisturbed)


def test_a_signal_in_the_last_evaluation_ends_a_finished_run(
    store, undisturbed, tmp_path, monkeypatch
):
    signal_in(monkeypatch, "judge_block", signal.SIGINT, at=3)
    with pytest.raises(KeyboardInterrupt, match="SIGINT: .*run is finished"):
        train(runs.config(store, tmp_path / "run"), quiet=True)
    runs.assert_same_run(tmp_path / "run", undisturbed)


def test_a_second_ctrl_c_stops_at_once(store, undisturbed, tmp_path, monkeypatch):
    calls = signal_in(monkeypatch, "train_block", signal.SIGINT, at=7, times=2)
    with pytest.raises(KeyboardInterrupt) as raised:
        train(runs.config(store, tmp_path / "run"), quiet=True)
    assert raised.value.args == ()
    assert len(calls) == 7
    assert latest(tmp_path / "run") == EPOCH
    monkeypatch.undo()
    runs.resume(tmp_path / "run")
    runs.assert_same_run(tmp_path / "run", undisturbed)


def test_a_second_sigterm_does_what_it_did_before(store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    before = signal.signal(signal.SIGTERM, killed)
    try:
        signal_in(monkeypatch, "train_block", signal.SIGTERM, at=7, times=2)
        with pytest.raises(Killed):
            train(runs.config(store, tmp_path / "run"), quiet=True)
        assert signal.getsignal(signal.SIGTERM) is killed
    finally:
        signal.signal(signal.SIGTERM, before)
    assert latest(tmp_path / "run") == EPOCH


def test_another_thread_trains_without_touching_signals(store, undisturbed, tmp_path, monkeypatch):
    seen = []
    original = steps.Steps.train_block

    def looking(self, state, block):
        seen.append((threading.current_thread(), signal.getsignal(signal.SIGTERM)))
        return original(self, state, block)

    monkeypatch.setattr(steps.Steps, "train_block", looking)
    thread = threading.Thread(
        target=train, args=(runs.config(store, tmp_path / "run"),), kwargs={"quiet": True}
    )
    thread.start()
    thread.join()
    assert set(seen) == {(thread, signal.getsignal(signal.SIGTERM))}
    runs.assert_same_run(tmp_path / "run", undisturbed)


def test_a_signal_that_is_ignored_stays_ignored(store, undisturbed, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signal_in(monkeypatch, "train_block", signal.SIGINT, at=7)
        train(runs.config(store, tmp_path / "run"), quiet=True)
    finally:
        signal.signal(signal.SIGINT, before)
    runs.assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("what", "at"), [("train_block", 7), ("judge_block", 3)])
def test_seeds_stop_too_and_the_same_command_goes_on(
    store, tmp_path, monkeypatch, capsys, what, at
):
    whole = train_seeds(runs.config(store, tmp_path / "whole"), [1, 2], quiet=True)
    signal_in(monkeypatch, what, signal.SIGTERM, at=at)
    with pytest.raises(SystemExit):
        train_seeds(runs.config(store, tmp_path / "runs"), [1, 2])
    assert not (tmp_path / "runs" / "seed-2").exists()
    assert (
        f"{tmp_path}/runs: the same command finishes the seeds that are left"
        in capsys.readouterr().err
    )
    monkeypatch.undo()
    again = train_seeds(runs.config(store, tmp_path / "runs"), [1, 2], quiet=True)
    assert again == whole
    assert json.loads((tmp_path / "runs" / "summary.json").read_text()) == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_says_it_once_and_ends_with_the_signals_exit_code(
    store, tmp_path, monkeypatch, capsys, number, code
):
    signal_in(monkeypatch, "train_block", number, at=2)
    with pytest.raises(SystemExit) as raised:
        main(
            [
                "train",
                "--store",
                str(store),
                "--out",
                str(tmp_path / "run"),
                "--pooler",
                "mean",
                "--batch-size",
                "8",
                "--buckets",
                "1",
            ]
        )
    assert raised.value.code == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last == f"{number.name}: stopped after step 2 of 15, which is saved; continue with train.py"
        f" --resume {tmp_path}/run"
    )


def test_two_processes_do_not_train_one_run(store, tmp_path):
    from glot_jax.errors import UsageError
    from glot_jax.run_folders.run_log import only_writer

    out = tmp_path / "run"
    train(runs.config(store, out), quiet=True)
    before = (out / "metrics.jsonl").read_bytes()
    with (
        only_writer(out),
        pytest.raises(UsageError, match="only one process at a time"),
    ):
        train(runs.config(store, out), resume=True, quiet=True)
    assert (out / "metrics.jsonl").read_bytes() == before
    train(runs.config(store, out), resume=True, quiet=True)


def test_a_run_that_another_process_trains_is_not_touched(store, tmp_path):
    from glot_jax.errors import UsageError
    from glot_jax.run_folders.run_log import only_writer

    out = tmp_path / "run"
    train(runs.config(store, out), quiet=True)

    def contents():
        return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}

    before = contents()
    # More epochs take the summary away, and another time between saves changes config.json.
    for changes in ({"epochs": 4}, {"checkpoint_minutes": 7.0}):
        settings = runs.config(store, out, **changes)
        beside = dataclasses.replace(settings, out=tmp_path / "other", seed=1)
        with only_writer(out), pytest.raises(UsageError, match="only one process at a time"):
            train(settings, resume=True, quiet=True)
        with only_writer(out), pytest.raises(UsageError, match="only one process at a time"):
            train_runs([settings, beside], joint="on", quiet=True)
        assert contents() == before
    # Once the other one has ended it goes on.
    assert train(runs.config(store, out, epochs=4), resume=True, quiet=True)["steps"] == 20


def test_a_signal_within_a_block_saves_where_the_block_ends(store, tmp_path, monkeypatch):
    # Every epoch is one dispatch, or as good as one.
    monkeypatch.setattr(Pace, "steps", 64)
    calls = []
    original = steps.Steps.train_block

    def signalled(self, state, block):
        calls.append(int(block.size))
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, state, block)

    monkeypatch.setattr(steps.Steps, "train_block", signalled)
    with pytest.raises(SystemExit):
        train(runs.config(store, tmp_path / "run", buckets=1, log_every=100), quiet=True)
    # The whole epoch was under way, and so its evaluation and its save follow.
    assert calls == [EPOCH]
    assert latest(tmp_path / "run") == EPOCH


def test_several_processes_stop_where_jax_says(monkeypatch):
    """SIGTERM is JAX's, which wants every number once; Ctrl-C of one is heard by all."""
    asked = []

    def reached(number: int) -> bool:
        asked.append(number)
        return number == 3

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(Processes(1, 2)) as stop:
        assert signal.getsignal(signal.SIGTERM) is before
        assert [stop.look() for _ in range(4)] == [False, False, True, True]
    assert asked == [1, 2, 3]
    assert stop.received is signal.SIGTERM

    with StopSignals(Processes(1, 2)) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        # Noted, and not acted upon before the others know.
        assert not stop.look()
        stop.hear([None, stop.noted])
        assert stop.look()
    assert stop.received is signal.SIGINT
    with StopSignals() as alone:
        os.kill(os.getpid(), signal.SIGINT)
        assert alone.look()


def test_of_two_that_begin_one_folder_at_once_one_is_refused(store, tmp_path, monkeypatch):
    from glot_jax.errors import UsageError
    from glot_jax.run_folders.run_log import only_writer
    from glot_jax.training import loop

    out = tmp_path / "run"
    settings = runs.config(store, out)
    # Both have seen a folder that is not there; the other one has it first.
    with monkeypatch.context() as replaced:

        def begun_meanwhile(folder):
            folder.mkdir()
            (folder / "config.json").write_text("of the other one")

        replaced.setattr(loop, "make_folders", begun_meanwhile)
        with pytest.raises(UsageError, match="--out must be a new folder"):
            train(settings, quiet=True)
    assert (out / "config.json").read_text() == "of the other one"

    (out / "config.json").unlink()
    with only_writer(out), pytest.raises(UsageError, match="only one process at a time"):
        train(settings, quiet=True)
    # It was stopped before it had written anything: the folder is as good as new.
    assert [path.name for path in out.iterdir()] == ["timing.jsonl"]
    assert train(settings, quiet=True)["steps"] == 15

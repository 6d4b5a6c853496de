"""Lines of progress for logs."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from glot_jax import progress
from glot_jax.extraction.progress import SplitProgress
from glot_jax.progress import ProgressLines, duration
from glot_jax.run_folders.run_log import Display


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    # The module's own name: servers and locks of other tests wait by the clock of the process.
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    return clock


def test_at_most_a_line_every_thirty_seconds_with_share_and_time_left():
    clock = Clock()
    said: list[str] = []
    lines = ProgressLines(said.append, clock)
    lines.begin(100)
    for step in range(101, 301):
        clock.now += 1
        lines.update(step, 500, lambda step=step: f"step {step}")
    assert len(said) == 200 // 30
    # 30 of the 400 steps that are left took 30 s: what was done before is not counted.
    assert said[0] == "step 130, 26%, 6 min left"
    assert said[-1] == "step 280, 56%, 4 min left"


def test_what_ends_sooner_is_not_spoken_of():
    clock = Clock()
    said: list[str] = []
    lines = ProgressLines(said.append, clock)
    clock.now += 29
    lines.update(1, 2, lambda: "half")
    assert not said


def test_a_total_that_was_too_small_is_never_passed():
    clock = Clock()
    said: list[str] = []
    lines = ProgressLines(said.append, clock)
    clock.now += 31
    lines.update(12, 10, lambda: "12 of about 10")
    assert said == ["12 of about 10, 100%"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3570, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_training_and_extraction_say_it_where_there_is_no_terminal(clock, capsys):
    display = Display()
    display.start("cola glot", 480, 0)
    clock.now += 40
    display.advance(310, "loss 0.4123")
    display.stop()
    assert capsys.readouterr().err == "step 310 of 480, loss 0.4123, 65%, 22 s left\n"
    log = io.StringIO()
    console = Console(file=log)
    with SplitProgress(console, "train", 1000) as split:
        split.find(500)
        clock.now += 40
        split.store(100, 4000)
    assert log.getvalue().startswith("train: 600 of about 1,000 tokens, ")
    assert log.getvalue().endswith(", 20%, 3 min left\n")


def test_a_terminal_has_its_bar_and_a_quiet_run_nothing(clock):
    log = io.StringIO()
    terminal = Console(file=log, force_terminal=True)
    with SplitProgress(terminal, "train", 1000) as split:
        clock.now += 40
        split.store(100, 4000)
    assert "min left" not in log.getvalue()
    quiet = Display(quiet=True)
    quiet.start("run", 10, 0)
    clock.now += 40
    quiet.advance(5)
    quiet.stop()


def test_a_named_display_says_nothing_but_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr("glot_jax.progress.EVERY", 0.0)
    whole = Display(quiet="run 3 of 30")
    for display in (whole, whole.named("seed-1", bar=True)):
        display.line("compiling")
        display.start("training", 10, 0)
        display.advance(4, "epoch 1 of 2")
        display.stop()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("run 3 of 30: step 4 of 10, epoch 1 of 2, 40%")
    assert said[1].startswith("seed-1: run 3 of 30: step 4 of 10")
    silent = Display(quiet=True)
    silent.start("training", 10, 0)
    silent.advance(4)
    assert capsys.readouterr().err == ""

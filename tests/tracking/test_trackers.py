"""Trackers are told of a run, and none of them can end it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.tracking import TRACKERS, TrackedRun, Trackers

RUN = TrackedRun(Path("nowhere"), "run", {"lr": 0.1}, 0)


class Listening:
    """Notes what it is told; raises in the method of that name."""

    fails_in = ""

    def __init__(self):
        self.told: list[tuple] = []

    @classmethod
    def require_installed(cls):
        pass

    def _note(self, name, *values):
        self.told.append((name, *values))
        if name == self.fails_in:
            raise OSError("no space\nleft")

    def begin(self, run):
        self._note("begin", run)

    def scalars(self, step, values):
        self._note("scalars", step, dict(values))

    def histogram(self, step, name, values):
        self._note("histogram", step, name, values.tolist())

    def stop(self):
        self._note("stop")

    def end(self, scores):
        self._note("end", dict(scores))


@pytest.fixture
def made(monkeypatch):
    """Two trackers of a plugin, by name, once they are made."""
    instances = {}

    def maker(name):
        def make():
            instances[name] = Listening()
            return instances[name]

        return make

    for name in ("first", "second"):
        monkeypatch.setitem(TRACKERS, name, maker(name))
    return instances


def test_all_are_told_in_their_own_folders(made, tmp_path):
    trackers = Trackers(("first", "second", "first"), pytest.fail)
    run = TrackedRun(tmp_path, "run", {"lr": 0.1}, 7)
    trackers.begin(run)
    trackers.scalars(8, {"train/loss": 0.5})
    trackers.histograms(8, lambda: {"degrees": np.array([1.0, np.nan, 3.0])})
    trackers.stop()
    trackers.end({"best/validation/accuracy": 1.0})
    for name, tracker in made.items():
        (_, begun), *others = tracker.told
        assert begun == TrackedRun(tmp_path / name, "run", {"lr": 0.1}, 7)
        assert begun.folder.is_dir()
        assert others == [
            ("scalars", 8, {"train/loss": 0.5}),
            ("histogram", 8, "degrees", [1.0, 3.0]),
            ("stop",),
            ("end", {"best/validation/accuracy": 1.0}),
        ]


@pytest.mark.parametrize("method", ["begin", "scalars", "histogram", "stop", "end"])
def test_one_that_fails_is_said_once_and_left_alone(made, tmp_path, method, monkeypatch):
    said = []
    trackers = Trackers(("first", "second"), said.append)
    monkeypatch.setattr(made["first"], "fails_in", method)
    for _ in range(2):
        trackers.begin(TrackedRun(tmp_path, "run", {}, 0))
        trackers.scalars(1, {})
        trackers.histograms(1, lambda: {"degrees": np.ones(2)})
        trackers.stop()
        trackers.end({})
    assert said == [
        "tracker first failed and is left alone, the run goes on: OSError: no space left"
    ]
    assert trackers.names == ("second",)
    assert [name for name, *_ in made["first"].told].count(method) == 1
    assert [name for name, *_ in made["second"].told].count(method) == 2


def test_what_cannot_be_looked_at_is_said_once(made):
    said = []

    def broken():
        raise ValueError("no weights")

    Trackers((), pytest.fail).histograms(1, broken)
    trackers = Trackers(("first",), said.append)
    trackers.histograms(1, broken)
    trackers.histograms(2, broken)
    trackers.scalars(2, {})
    assert said == ["no histograms for trackers: ValueError: no weights"]
    assert made["first"].told == [("scalars", 2, {})]


def test_a_folder_that_cannot_be_made_is_no_end_either(made, tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    trackers = Trackers(("first",), said.append)
    trackers.begin(TrackedRun(tmp_path / "file", "run", {}, 0))
    assert len(said) == 1
    assert made["first"].told == []


def test_an_unknown_one_is_told_before_the_run():
    with pytest.raises(UsageError, match=r"unknown tracker \(--track\); got 'tensorbord'.*mlflow"):
        Trackers(("tensorbord",), pytest.fail)

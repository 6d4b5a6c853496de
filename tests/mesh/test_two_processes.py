"""`train.py` itself in two processes that train one run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from support import runs
from support.process_pairs import ended, saved_steps, started, wait_until, words_of
from support.synthetic_stores import make_store

from glot_jax.cli import main
from glot_jax.config.train import OptimizerConfig
from glot_jax.training import train


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "store"
    # Long enough to be interrupted: 300 steps, saved at every tenth.
    return make_store(folder, rows={"train": 2_400, "validation": 32}, dim=4, longest=4)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_sigterm_to_one_stops_both_and_one_goes_on_alone(store, tmp_path, capsys):
    """Both end after one step, which is saved; the whole run is that of one process."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    with started(words_of(store, out), tmp_path) as pair:
        # It has saved, and so it trains.
        wait_until(lambda: bool(saved_steps(out)), pair)
        os.kill(pair[1].pid, signal.SIGTERM)
        (code, _, said), (other_code, other_out, other_said) = map(ended, pair)
    assert (code, other_code) == (143, 143), said + other_said
    step = saved_steps(out)[-1]
    assert 0 < step < 300
    assert f"SIGTERM: stopped after step {step} of 300, which is saved" in said
    # One log, by one process.
    assert "stopped after" not in other_said
    assert not other_out
    assert "2 devices (cpu) divide every batch, of 2 processes" in said
    assert not list(out.glob("**/*orbax-checkpoint-tmp*"))

    with pytest.raises(SystemExit) as ending:
        main(["train", "--resume", str(out), "--checkpoint-minutes", "0"])
    assert ending.value.code == 0
    resumed = "saved with 2 devices of 2 processes, goes on with 1 of 1"
    assert resumed in capsys.readouterr().err
    settings = {"epochs": 1, "log_every": 10, "optimizer": OptimizerConfig(lr=1e-3)}
    train(runs.config(store, whole, **settings), quiet=True)
    for ours, theirs in zip(lines(out), lines(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=1e-5)

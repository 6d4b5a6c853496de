"""`train.py` itself in two processes that train one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import runs
from support.process_pairs import (
    PATIENCE,
    ROOT,
    ended,
    free_port,
    saved_steps,
    started,
    wait_until,
    words_of,
)
from support.ranking_stores import make_ranking_store, topic_groups
from support.synthetic_stores import CLASSES, PAIRS, make_store

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


SMALL = ["--pooler", "glot", "--hidden-dim", "8", "--scorer-dim", "8", "--num-layers", "1"]
CASES = {
    "gat": ("classes", [*SMALL, "--gnn", "gat"]),
    "gin": ("classes", [*SMALL, "--gnn", "gin"]),
    "dropout": ("classes", [*SMALL, "--dropout", "0.2", "--attention-dropout", "0.2"]),
    "pairs, from the host": ("pairs", [*SMALL, "--gnn", "gat", "--cache", "host"]),
    "InfoNCE, from the map": ("ranking", ["--embedding-head", "linear", "--cache", "none"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_compute_what_one_does(tmp_path, name):
    """Losses and scores within 1e-5; equal settings; one summary, on stdout too."""
    kind, options = CASES[name]
    if kind == "ranking":
        groups = {"train": topic_groups(12, 1), "validation": topic_groups(6, 2)}
        store = make_ranking_store(tmp_path / "store", groups, dim=8)
    else:
        store = make_store(tmp_path / "store", PAIRS if kind == "pairs" else CLASSES)
    out, whole = tmp_path / "two", tmp_path / "one"
    words = words_of(store, out, *options, "--json", "--track", "tensorboard")
    with started(words, tmp_path) as pair:
        (code, summary, said), (other_code, other_out, other_said) = map(ended, pair)
    assert (code, other_code, other_out) == (0, 0, ""), said + other_said
    assert json.loads(summary) == json.loads((out / "summary.json").read_text())
    with pytest.raises(SystemExit):
        main(["train", *words_of(store, whole, *options)])
    for ours, theirs in zip(lines(out), lines(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=1e-5)
    saved = [(run / "config.json").read_text().replace(str(run), "") for run in (out, whole)]
    assert saved[0] == saved[1]
    assert (out / "tracking" / "tensorboard").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([[], ["--seed", "7"]], "config.seed: 42 -> 7"),
        ([[], ["--store", "elsewhere"]], "(process 1 of 2, on "),
        ([["--batch-size", "7"]] * 2, "must be a multiple of the 2 devices: each has as many"),
        ([["--devices", "2"]] * 2, "2, of which this process sees 1 (cpu)"),
    ],
)
def test_processes_that_would_do_something_else_are_refused(store, tmp_path, own, message):
    """By all of them, in one line, before anything is written."""
    out = tmp_path / "run"
    with started(words_of(store, out), tmp_path, own=own) as pair:
        for code, _, said in map(ended, pair):
            assert code == 2, said
            assert message in said.splitlines()[-1]
            assert "Traceback" not in said
    assert not out.exists()


@pytest.mark.slow
def test_a_launcher_numbers_the_processes(store, tmp_path):
    """`torchrun`, which comes with PyTorch."""
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    port = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    words = [str(ROOT / "train.py"), *words_of(store, out, "--distributed", "auto")]
    ran = subprocess.run(
        [*launcher, *port, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    assert "process 1 of 2, from RANK" in ran.stderr
    assert "2 devices (cpu) divide every batch, of 2 processes" in ran.stderr
    assert (out / "summary.json").exists()

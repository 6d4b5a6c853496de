"""Runs on four devices against runs on one; `test_four_devices.py` runs this where there are four.

The devices are made of one CPU before JAX is loaded, so that it takes a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import runs
from support.ranking_stores import make_ranking_store, topic_groups
from support.synthetic_stores import PAIRS, make_store

import glot_jax
from glot_jax.config.machines import Devices
from glot_jax.config.train import ObjectiveConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.mesh.device_mesh import Mesh
from glot_jax.mesh.start import start
from glot_jax.run_folders.run_log import Display
from glot_jax.training import Workspace, train, train_seeds
from glot_jax.training.advance import Blocks, epoch_of
from glot_jax.training.evaluation import evaluate_run
from glot_jax.training.loop import checked

SMALL: dict[str, Any] = {"hidden_dim": 8, "scorer_dim": 8, "num_layers": 1}


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return start(Devices(devices="4"), print)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    groups = {"train": topic_groups(12, 1), "validation": topic_groups(6, 2)}
    return {
        "classes": make_store(folder / "classes"),
        "pairs": make_store(folder / "pairs", PAIRS),
        "ranking": make_ranking_store(folder / "ranking", groups, dim=8),
    }


CASES: dict[str, tuple[str, dict]] = {
    # Running statistics of the whole batch, in blocks of steps that gather from the device.
    "gin": ("classes", {"pooler": PoolerConfig(pooler="glot", gnn="gin", **SMALL)}),
    # Negatives are the texts of the whole batch, stacked by role; they come from the host.
    "InfoNCE": (
        "ranking",
        {"objective": ObjectiveConfig(embedding_head="linear"), "cache": "host"},
    ),
    "pairs": ("pairs", {"pooler": PoolerConfig(pooler="glot", **SMALL)}),
    # Equal entries are dropped, whoever has them.
    "dropout": (
        "classes",
        {"pooler": PoolerConfig(pooler="glot", dropout=0.2, attention_dropout=0.2, **SMALL)},
    ),
}
_LONG = ("pairs", "dropout")


def settings(store: Path, out: Path, **changes: object) -> TrainConfig:
    # Where a gradient is zero but for rounding, Adam makes a step of its sign: a small one here.
    optimizer = OptimizerConfig(lr=1e-3)
    given = {"epochs": 2, "eval_batch_size": 8, "optimizer": optimizer, **changes}
    return runs.config(store, out, **given)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_close(run: Path, other: Path) -> None:
    """Equal lines, but for digits: losses and scores within 1e-5."""
    for ours, theirs in zip(lines(run), lines(other), strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=1e-5)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in _LONG else ()) for name in CASES],
)
def test_four_devices_compute_what_one_does(mesh, stores, tmp_path, name):
    store, changes = CASES[name]
    one, four = tmp_path / "one", tmp_path / "four"
    train(settings(stores[store], one, **changes), quiet=True)
    train(settings(stores[store], four, **changes), quiet=True, workspace=Workspace(mesh))
    assert_close(four, one)
    saved = [(run / "config.json").read_text().replace(str(run), "") for run in (one, four)]
    assert saved[0] == saved[1]
    # Outputs: the head that was trained on four judges on one as it did there.
    best = json.loads((four / "summary.json").read_text())["validation"]["best"]
    scores = evaluate_run(four, quiet=True)["validation"]
    assert scores == pytest.approx({key: best[key] for key in scores}, rel=0, abs=1e-5)


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    ("before", "after"),
    [(4, 1), pytest.param(1, 4, marks=pytest.mark.slow)],
)
def test_a_run_goes_on_with_another_number(mesh, stores, tmp_path, capsys, before, after):
    def workspace(count: int) -> Workspace:
        return Workspace(mesh) if count == 4 else Workspace()

    def stop(epoch: int, _score: float) -> None:
        if epoch == 1:
            raise Stopped

    run, whole = tmp_path / "run", tmp_path / "whole"
    train(settings(stores["classes"], whole), quiet=True)
    with pytest.raises(Stopped):
        train(
            settings(stores["classes"], run),
            workspace=workspace(before),
            after_epoch=stop,
            quiet=True,
        )
    train(settings(stores["classes"], run), resume=True, workspace=workspace(after))
    said = capsys.readouterr().err
    assert f"saved with {before} devices of 1 processes, goes on with {after} of 1" in said
    assert_close(run, whole)


def test_the_rows_of_a_batch_are_divided(mesh, stores, tmp_path):
    """Each device gathers the states of its own texts, and sends none to the others."""
    run = checked(
        settings(stores["classes"], tmp_path / "run"),
        Display(quiet=True),
        workspace=Workspace(mesh),
    )
    advance = epoch_of(run.steps, run.feeds["train"], 0, run.steps_per_epoch)
    assert isinstance(advance, Blocks)
    length = advance.length(0)
    block = advance.block(0, 2, length)
    lowered = run.steps.lower_block("train", run.state, block)
    program = lowered.compile().as_text()
    assert program is not None
    # Gathered states are float16, as they are stored.
    assert f"f16[2,{length},8]" in program
    assert f"f16[8,{length},8]" not in program
    # What is sent is gradients and sums.
    assert "all-reduce" in program
    assert not re.search(r"all-gather|all-to-all|collective-permute", program)


@pytest.mark.slow
def test_seeds_follow_one_another(mesh, stores, tmp_path):
    """Each on all devices; none of them is trained in one program with another."""
    config = settings(stores["classes"], tmp_path / "seeds", epochs=1)
    summary = train_seeds(config, [1, 2], workspace=Workspace(mesh), quiet=True)
    assert summary["runs"] == ["seed-1", "seed-2"]
    alone = dataclasses.replace(config, seed=2, out=tmp_path / "alone")
    train(alone, quiet=True)
    assert_close(tmp_path / "seeds" / "seed-2", tmp_path / "alone")
    with pytest.raises(UsageError, match="divided among several devices"):
        train_seeds(
            dataclasses.replace(config, out=tmp_path / "joint"),
            [1, 2],
            workspace=Workspace(mesh),
            joint="on",
            quiet=True,
        )


@pytest.mark.slow
def test_in_python(stores, tmp_path):
    run = glot_jax.train(
        store=str(stores["classes"]),
        out=str(tmp_path / "run"),
        pooler="mean",
        epochs=1,
        batch_size=8,
        devices=4,
        quiet=True,
    )
    assert np.isfinite(run.score)


def test_what_is_refused(mesh, stores, tmp_path):
    with pytest.raises(UsageError, match="5, of which this process sees 4 .cpu.. Give --devices 4"):
        start(Devices(devices="5"), print)
    out = tmp_path / "run"
    with pytest.raises(UsageError, match="--batch-size must be a multiple of the 4 devices"):
        train(settings(stores["classes"], out, batch_size=6), workspace=Workspace(mesh))
    with pytest.raises(UsageError, match="a workspace has its devices from the beginning"):
        glot_jax.train(store="x", out=str(out), devices=4, workspace=Workspace())
    assert not out.exists()

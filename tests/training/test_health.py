"""Runs that have gone wrong are named, and healthy ones are not."""

from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.head_runs import config
from support.synthetic_stores import CLASSES, LABELS, SCORE, SCORES, make_store

from glot_jax import cli
from glot_jax.config.train import ObjectiveConfig, OptimizerConfig, PoolerConfig
from glot_jax.files import read_json
from glot_jax.objectives.classes import Classes
from glot_jax.objectives.multilabel import MultiLabel
from glot_jax.objectives.scores import Scores
from glot_jax.reporting.report import write_report
from glot_jax.training import Workspace, train, train_seeds

ROWS = {"train": 160, "validation": 60}
THREE = dataclasses.replace(CLASSES, classes=("no", "yes", "maybe"))


def relabelled(store, split, change):
    """Other labels for a split, in a store that is trusted then."""
    path = store / split / "labels.npy"
    np.save(path, change(np.load(path)))
    return store


def glot(*arguments) -> object:
    """The code that the command ends with."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return ended.value.code


def names(summary):
    return [entry["name"] for entry in summary["health"]]


def healthy(folder, **options):
    return make_store(folder / "store", rows=ROWS, **options)


def inverted(folder):
    return relabelled(healthy(folder), "validation", lambda labels: 1 - labels)


def alike(folder):
    """Every state the same, as of an extraction of one text."""
    store = healthy(folder)
    for path in store.glob("*/*/hidden-*.npy"):
        states = np.load(path)
        np.save(path, np.broadcast_to(states[:1, :1], states.shape))
    return store


SLOW = {"epochs": 3, "trust_store": True}
FAULTS = {
    "sinks are kept": (lambda folder: healthy(folder, sinks=(0,)), {"sinks": "keep"}),
    "states are long": (lambda folder: healthy(folder, scale=100.0), {}),
    "a rate of nothing": (healthy, {"optimizer": OptimizerConfig(lr=0.0)}),
    "a rate that explodes": (
        lambda folder: healthy(folder, spec=SCORE),
        {"optimizer": OptimizerConfig(lr=30.0), "log_every": 1},
    ),
    "validation is labelled the other way round": (inverted, {"epochs": 8}),
    "all states are alike": (alike, {}),
    "a small validation split": (
        lambda folder: make_store(folder / "store", rows={"train": 160, "validation": 20}),
        {},
    ),
    "a class is not in validation": (
        lambda folder: relabelled(
            make_store(folder / "store", THREE, rows=ROWS),
            "train",
            lambda labels: np.arange(len(labels)) % 3,
        ),
        {},
    ),
    "a class is not in train": (
        lambda folder: relabelled(
            make_store(folder / "store", THREE, rows=ROWS),
            "validation",
            lambda labels: np.arange(len(labels)) % 3,
        ),
        {},
    ),
}
FOUND = {
    "sinks are kept": "large-states",
    "states are long": "large-states",
    "a rate of nothing": "not-learned",
    "a rate that explodes": "loss-grew",
    "validation is labelled the other way round": "not-learned",
    "all states are alike": "not-learned",
    "a small validation split": "small-selection",
    "a class is not in validation": "missing-classes",
    "a class is not in train": "missing-classes",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_where_it_happens_and_in_the_summary(tmp_path, capfd, fault):
    make, changes = FAULTS[fault]
    settings = config(make(tmp_path), tmp_path / "run", **{**SLOW, **changes})
    summary = train(settings)
    assert FOUND[fault] in names(summary)
    assert summary["health"] == read_json(tmp_path / "run" / "summary.json")["health"]
    said = capfd.readouterr().err.replace("\n", "")
    for entry in summary["health"]:
        assert said.count(f"health: {entry['text']}") == 1


def test_a_head_below_a_linear_one_is_named(tmp_path, capsys):
    # It has seen one row, and the regression all of them.
    store = healthy(tmp_path)
    options = ["--store", str(store), "--pooler", "mean", "--epochs", "1", "--lr", "0", "--json"]
    assert glot("train", *options, "--out", str(tmp_path / "run"), "--linear-probe") == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary == read_json(tmp_path / "run" / "summary.json")
    assert "below-linear" in names(summary)
    probe = summary["linear_probe"]["validation"]
    assert probe["accuracy"] > summary["validation"]["best"]["accuracy"]
    assert f"{probe['accuracy']:.3f} by logistic regression" in printed.err


def test_a_probe_of_scores_is_refused_before_anything_is_trained(tmp_path, capsys):
    store = make_store(tmp_path / "store", SCORES)
    out = tmp_path / "run"
    assert glot("train", "--store", str(store), "--out", str(out), "--linear-probe") == 2
    assert "--linear-probe needs classes" in capsys.readouterr().err
    assert not out.exists()


def test_seeds_that_have_not_learned_are_named_at_the_end_and_in_the_report(tmp_path, capsys):
    store = str(healthy(tmp_path))
    options = ["--store", store, "--out", str(tmp_path / "runs"), "--epochs", "2", "--lr", "0"]
    assert glot("train", *options, "--pooler", "mean", "--seeds", "1", "2") == 0
    assert (
        "Not learned, no better than always the same answer: seed 1, 2" in capsys.readouterr().out
    )
    good = config(healthy(tmp_path / "other"), tmp_path / "runs" / "good", epochs=8)
    train(good, quiet=True)
    values = write_report([tmp_path / "runs"], tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "none of 2" in page
    assert any("not learned" in remark for remark in values["remarks"])
    assert "seeds that learned" in page


@pytest.mark.parametrize("seeds", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_nothing_is_found_in_healthy_runs(tmp_path, seeds):
    # A hundred of them in the long version.
    store = healthy(tmp_path)
    found = {}
    for pooler in ("mean", "adapool", "mlp", "glot"):
        settings = config(
            store,
            tmp_path / pooler,
            epochs=6,
            pooler=PoolerConfig(pooler=pooler, hidden_dim=8, scorer_dim=8),
        )
        workspace = Workspace()
        train_seeds(settings, list(range(seeds)), quiet=True, workspace=workspace)
        for seed in range(seeds):
            summary = read_json(tmp_path / pooler / f"seed-{seed}" / "summary.json")
            if summary["health"]:
                found[pooler, seed] = summary["health"]
    assert found == {}


@pytest.mark.parametrize("weights", [(), (1.0, 3.0)])
def test_the_best_constant_answers_loss_is_the_least_of_all(weights):
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.3).astype(np.int64)
    objective = Classes(CLASSES, ObjectiveConfig(class_weights=weights))
    logits = np.linspace(-4, 4, 2001)
    outputs = np.stack([np.zeros_like(logits), logits], 1).astype(np.float32)
    losses = [
        float(np.mean(np.asarray(objective.loss(jnp.tile(row, (200, 1)), jnp.asarray(labels)))))
        for row in outputs[::20]
    ]
    assert objective.constant_loss(labels) == pytest.approx(min(losses), abs=2e-4)
    assert objective.constant_loss(labels) <= min(losses) + 1e-6


def test_so_it_is_of_several_classes_and_of_scores():
    rng = np.random.default_rng(1)
    labels = (rng.random((100, 3)) < 0.3).astype(np.uint8)
    objective = MultiLabel(LABELS, ObjectiveConfig(class_weights=(1.0, 2.0, 4.0)))
    shares = labels.mean(axis=0)
    odds = np.array([1.0, 2.0, 4.0]) * shares / (1 - shares)
    best = np.tile(np.log(odds).astype(np.float32), (100, 1))
    reached = float(np.mean(np.asarray(objective.loss(jnp.asarray(best), jnp.asarray(labels)))))
    assert objective.constant_loss(labels) == pytest.approx(reached, abs=1e-5)
    scores = rng.uniform(0, 5, 100).astype(np.float32)
    scored = Scores(SCORES, ObjectiveConfig())
    mean = np.full((100, 1), scores.mean() / 5, np.float32)
    reached = float(np.mean(np.asarray(scored.loss(jnp.asarray(mean), jnp.asarray(scores)))))
    assert scored.constant_loss(scores) == pytest.approx(reached, abs=1e-5)

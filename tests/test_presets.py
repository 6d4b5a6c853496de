"""Presets: experiment cards that say what they set, usable on every kind of task."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.synthetic_stores import CLASSES, PAIRS, SCORES, make_store

from glot_jax.cli import COMMANDS
from glot_jax.cli.train import read_train
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.presets import PRESETS
from glot_jax.training import train


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        name: make_store(folder / name, spec)
        for name, spec in {"classes": CLASSES, "pairs": PAIRS, "scores": SCORES}.items()
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_experiment_card(name):
    card = PRESETS[name].__doc__ or ""
    assert f"--preset {name}" in card
    assert all(word in card for word in ("settings", "command", "expected", "time"))


TASKS = ("classes", "pairs", "scores")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(name, task, marks=[] if (i - j) % len(TASKS) == 0 else [pytest.mark.slow])
        for i, name in enumerate(PRESETS)
        for j, task in enumerate(TASKS)
    ],
)
def test_every_preset_trains_every_kind_of_task(stores, tmp_path, name, task):
    config = PRESETS[name](TrainConfig(store=stores[task], out=tmp_path / "run"), task == "scores")
    # Small sizes; everything else is the preset's own.
    config = dataclasses.replace(
        config,
        epochs=1,
        buckets=1,
        batch_size=8,
        pooler=dataclasses.replace(config.pooler, hidden_dim=8, scorer_dim=8),
    )
    summary = train(config, quiet=True)
    assert summary["steps"] >= 4
    assert summary["selected_on"] == config.objective.select_on


def test_presets_are_what_their_names_say():
    base = TrainConfig(store=Path("s"), out=Path("o"))
    made = {name: preset(base, False) for name, preset in PRESETS.items()}
    assert made["paper"].optimizer.optimizer == made["release"].optimizer.optimizer == "adam"
    assert made["paper"].pooler.edge_term is False
    assert made["release"].pooler.edge_term is True
    assert made["release"].batches == "shuffled"
    assert made["paper"].sinks == made["release"].sinks == "keep"
    assert made["tuned"].sinks == "auto"
    assert made["tuned"].objective.select_on == "holdout"
    assert made["tuned"].optimizer.schedule == "cosine"
    assert made["tuned"].pooler.standardise is True
    assert all(config.store == base.store and config.out == base.out for config in made.values())


def test_the_tuned_rate_follows_the_task_of_the_store(stores, tmp_path):
    for task, rate in (("pairs", 1e-3), ("scores", 2e-4)):
        out = tmp_path / task
        assert (
            COMMANDS["train"](
                [
                    "--store",
                    str(stores[task]),
                    "--out",
                    str(out),
                    "--preset",
                    "tuned",
                    "--hidden-dim",
                    "8",
                    "--buckets",
                    "1",
                    "--epochs",
                    "1",
                ]
            )
            == 0
        )
        assert saved(out)["optimizer"]["lr"] == rate
    with pytest.raises(UsageError, match="a store must be a folder written by extract.py"):
        COMMANDS["train"](
            ["--store", str(tmp_path / "none"), "--out", str(tmp_path / "run"), "--preset", "tuned"]
        )


def saved(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())["config"]


def test_flags_beside_a_preset_win(stores, tmp_path, capsys):
    arguments = [
        "--store",
        str(stores["pairs"]),
        "--out",
        str(tmp_path / "run"),
        "--preset",
        "tuned",
        "--hidden-dim",
        "8",
        "--buckets",
        "1",
        "--epochs",
        "1",
        "--lr",
        "0.001",
        "--json",
    ]
    assert COMMANDS["train"](arguments) == 0
    config = saved(tmp_path / "run")
    assert config["pooler"]["hidden_dim"] == 8
    assert config["optimizer"]["lr"] == 0.001
    assert config["epochs"] == 1
    assert config["pooler"]["standardise"] is True
    assert config["objective"]["pair_features"] == "interaction"
    assert json.loads(capsys.readouterr().out)["selected_on"] == "holdout"


def test_a_warm_up_in_another_unit_takes_the_place_of_the_preset_s(stores, tmp_path):
    where = [
        "--store",
        str(stores["pairs"]),
        "--hidden-dim",
        "8",
        "--buckets",
        "1",
        "--epochs",
        "1",
        "--batch-size",
        "8",
    ]
    begun = [*where, "--out", str(tmp_path / "run"), "--preset", "tuned"]
    optimizer = read_train([*begun, "--warmup_epochs=0.5"], "train.py").run.optimizer
    assert (optimizer.warmup_steps, optimizer.warmup_epochs, optimizer.warmup_fraction) == (
        None,
        0.5,
        None,
    )
    assert COMMANDS["train"]([*begun, "--warmup-steps", "2"]) == 0
    optimizer = saved(tmp_path / "run")["optimizer"]
    assert (
        optimizer["warmup_steps"],
        optimizer["warmup_epochs"],
        optimizer["warmup_fraction"],
    ) == (2, None, None)
    again = [
        "--config",
        str(tmp_path / "run" / "config.json"),
        "--warmup-fraction",
        "0.2",
        "--out",
        str(tmp_path / "again"),
    ]
    optimizer = read_train(again, "train.py").run.optimizer
    assert (optimizer.warmup_steps, optimizer.warmup_fraction) == (None, 0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix_layers": 3}, "mix_layers must be a list; got 3"),
        ({"mix_layers": ["a"]}, "mix_layers must be of type int; got 'a'"),
        ({"graph": {"temperature": [0.1]}}, r"temperature must be a list of 2; got \[0.1\]"),
        ({"graph": {"k": 2.5}}, "k must be of type int; got 2.5"),
    ],
)
def test_a_config_file_edited_by_hand_is_checked(stores, tmp_path, changes, message):
    (tmp_path / "config.json").write_text(json.dumps({"store": "s", "out": "o", **changes}))
    with pytest.raises(UsageError, match=message):
        COMMANDS["train"](
            [
                "--config",
                str(tmp_path / "config.json"),
                "--store",
                str(stores["pairs"]),
                "--out",
                str(tmp_path / "run"),
            ]
        )


def test_impossible_presets_are_refused(stores, tmp_path):
    where = ["--store", str(stores["pairs"]), "--out", str(tmp_path / "run")]
    with pytest.raises(
        UsageError,
        match=r"unknown preset \(--preset\); got 'best'. Known: msmarco, paper, release, tuned",
    ):
        COMMANDS["train"]([*where, "--preset", "best"])
    (tmp_path / "config.json").write_text(json.dumps({"store": "s", "out": "o"}))
    with pytest.raises(UsageError, match="settings must come from one place"):
        COMMANDS["train"]([*where, "--preset", "paper", "--config", str(tmp_path / "config.json")])
    with pytest.raises(
        UsageError, match="--resume names the run and its settings; got --resume with --preset"
    ):
        COMMANDS["train"](["--resume", str(tmp_path), "--preset", "paper"])
    assert not (tmp_path / "run").exists()

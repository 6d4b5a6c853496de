"""Trials of a sweep: settings, folders, commands and JSON."""

from __future__ import annotations

import dataclasses
import shlex

from glot_jax.cli.train import read_train
from glot_jax.config.axes import TABLE_6
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.experiments.search_space import SearchSpace
from glot_jax.experiments.sweep_trials import (
    SweepTrial,
    best_first,
    command_of,
    tied,
    trial_folder,
    trial_runs,
)

VALUES = {
    "lr": 2e-4,
    "weight_decay": 0.0,
    "num_layers": 2,
    "hidden_dim": 64,
    "jk": "max",
    "projection_dim": 0,
    "tau": 0.3,
}


def base_of(tmp_path, **changes) -> TrainConfig:
    return TrainConfig(
        store=tmp_path / "store",
        out=tmp_path,
        objective=ObjectiveConfig(select_on="holdout"),
        **changes,
    )


def test_no_projection_is_spelled_0_in_a_sweep_and_left_out_of_a_command(tmp_path):
    config = SweepConfig(store=tmp_path / "store", out=tmp_path)
    space = SearchSpace.create(base_of(tmp_path), TABLE_6, TABLE_6)
    plain = TrainConfig(store=config.store, out=tmp_path)
    assert space.config(VALUES).pooler.projection_dim is None
    words = shlex.split(command_of(config, space, plain, VALUES, "runs/best"))
    assert "--projection-dim" not in words
    assert words[words.index("--jk") + 1] == "max"
    projected = {**VALUES, "projection_dim": 128}
    words = shlex.split(command_of(config, space, plain, projected, "runs/best"))
    assert words[words.index("--projection-dim") + 1] == "128"


def test_a_command_has_every_setting_that_differs_from_what_is_trained_without(tmp_path):
    """Read by train.py itself, it gives the settings of the trial."""
    base = base_of(
        tmp_path,
        epochs=3,
        graph=GraphConfig(graph="knn", k=4, learn_tau=False),
        pooler=PoolerConfig(gnn="gin", standardise=True),
        mix_layers=(1, 2),
    )
    config = SweepConfig(store=tmp_path / "store", out=tmp_path, seed=7)
    space = SearchSpace(base, {})
    plain = TrainConfig(store=config.store, out=tmp_path)
    words = shlex.split(command_of(config, space, plain, {}, str(tmp_path / "best")))
    read = read_train(words[2:], "train.py").run
    (run,) = trial_runs(config, space, {})
    assert dataclasses.replace(read, out=run.out) == run


def test_a_command_names_the_run_where_a_value_cannot_be_typed(tmp_path):
    config = SweepConfig(store=tmp_path / "store", out=tmp_path)
    plain = base_of(tmp_path, pooler=PoolerConfig(projection_dim=64))
    space = SearchSpace.create(plain, TABLE_6, TABLE_6)
    words = shlex.split(command_of(config, space, plain, VALUES, "runs/best"))
    run = trial_folder(config, VALUES) / "config.json"
    assert words[2:4] == ["--config", str(run)]


def test_a_trial_finds_its_folder_whatever_the_order_of_its_values(tmp_path):
    config = SweepConfig(store=tmp_path / "store", out=tmp_path)
    folder = trial_folder(config, VALUES)
    assert trial_folder(config, dict(reversed(VALUES.items()))) == folder
    assert trial_folder(config, {**VALUES, "tau": 0.6}) != folder
    assert folder.parent == tmp_path / "trials"


def test_the_values_tried_stand_among_the_fields():
    trial = trial_of(3, 0.5)
    fields = trial.to_json()
    assert set(fields) == {
        *("number", "state", "score", "deviation", "reported", "parameters", "seconds", "run"),
        "reason",
        *TABLE_6,
    }
    assert fields["tau"] == 0.3


def trial_of(number: int, score: float | None, parameters: int = 10, state: str = "complete"):
    return SweepTrial(number, state, score, None, {}, parameters, 1.5, "run", None, VALUES)


def test_of_equal_scores_the_smallest_stands_first_and_then_the_first_tried():
    large, first, second = trial_of(0, 0.5, 20), trial_of(1, 0.5), trial_of(2, 0.5 + 1e-15)
    worse, pruned = trial_of(3, 0.4, 1), trial_of(4, 0.9, 1, "pruned")
    ordered = best_first([pruned, worse, second, large, first])
    assert ordered == [first, second, large, worse, pruned]
    assert tied(ordered) == [first, second, large]
    assert tied([worse, pruned]) == []
    assert tied([]) == []

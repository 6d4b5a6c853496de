"""Trials of a sweep: settings, folders, commands and JSON."""

from __future__ import annotations

import shlex

from glot_jax.config.experiments import SPACE, SweepConfig
from glot_jax.experiments.sweep_trials import (
    SweepTrial,
    command_of,
    trial_config,
    trial_folder,
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


def test_no_projection_is_spelled_0_in_a_sweep_and_left_out_of_a_command(tmp_path):
    config = SweepConfig(store=tmp_path / "store", out=tmp_path)
    assert trial_config(config, VALUES, tmp_path).pooler.projection_dim is None
    words = shlex.split(command_of(config, VALUES, "runs/best"))
    assert "--projection-dim" not in words
    assert words[words.index("--jk") + 1] == "max"
    projected = {**VALUES, "projection_dim": 128}
    assert "--projection-dim" in shlex.split(command_of(config, projected, "runs/best"))


def test_a_trial_finds_its_folder_whatever_the_order_of_its_values(tmp_path):
    config = SweepConfig(store=tmp_path / "store", out=tmp_path)
    folder = trial_folder(config, VALUES)
    assert trial_folder(config, dict(reversed(VALUES.items()))) == folder
    assert trial_folder(config, {**VALUES, "tau": 0.6}) != folder
    assert folder.parent == tmp_path / "trials"


def test_the_values_tried_stand_among_the_fields():
    trial = SweepTrial(3, "complete", 0.5, {}, 10, 1.5, "run", VALUES)
    fields = trial.to_json()
    assert set(fields) == {
        *("number", "state", "score", "reported", "parameters", "seconds", "run"),
        *SPACE,
    }
    assert fields["tau"] == 0.3

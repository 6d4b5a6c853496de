"""Several seeds of one run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.head_runs import arrays, config, run

from glot_jax.config.train import (
    GraphConfig,
    OptimizerConfig,
)
from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.training import train, train_seeds
from glot_jax.training.prepare import prepare
from glot_jax.training.workspace import Workspace


def test_seeds_into_the_folder_of_a_single_run_are_refused(stores, tmp_path):
    run(stores["classes"], tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match="a run of its own"):
        train_seeds(config(stores["classes"], tmp_path / "run", epochs=1), [1])


def test_seeds_are_complete_runs_with_mean_and_deviation(stores, tmp_path):
    summary = train_seeds(config(stores["classes"], tmp_path / "runs"), [1, 2, 3], quiet=True)
    assert summary == json.loads((tmp_path / "runs" / "summary.json").read_text())
    singles = [
        json.loads((tmp_path / "runs" / name / "summary.json").read_text())
        for name in summary["runs"]
    ]
    assert [single["seed"] for single in singles] == summary["seeds"] == [1, 2, 3]
    scores = [single["validation"]["best"]["accuracy"] for single in singles]
    assert summary["mean"]["validation"]["best"]["accuracy"] == pytest.approx(np.mean(scores))
    assert summary["std"]["validation"]["best"]["accuracy"] == pytest.approx(np.std(scores, ddof=1))
    kept = (tmp_path / "runs" / "seed-1" / "summary.json").stat().st_mtime_ns
    (tmp_path / "runs" / "summary.json").unlink()
    assert (
        train_seeds(config(stores["classes"], tmp_path / "runs"), [1, 2, 3], quiet=True) == summary
    )
    assert (tmp_path / "runs" / "seed-1" / "summary.json").stat().st_mtime_ns == kept
    with pytest.raises(UsageError, match="--seeds must be different"):
        train_seeds(config(stores["classes"], tmp_path / "again"), [1, 1])


def test_seeds_share_what_is_compiled(stores, tmp_path):
    workspace = Workspace()

    def steps_of(**changes):
        changed = config(stores["pairs"], tmp_path / "run", **changes)
        return prepare(changed, Display(quiet=True), workspace).steps

    assert steps_of(seed=1) is steps_of(seed=2, log_every=7)
    # Numbers that a program is told.
    assert steps_of(seed=1) is steps_of(seed=1, optimizer=OptimizerConfig(lr=3e-3))
    assert steps_of(seed=1) is steps_of(seed=1, graph=GraphConfig(tau=0.1))
    decayed = [OptimizerConfig(weight_decay=decay) for decay in (0.1, 0.2)]
    assert steps_of(optimizer=decayed[0]) is steps_of(optimizer=decayed[1])
    # Whether one is read at all, and everything else, is compiled.
    assert steps_of() is not steps_of(optimizer=decayed[0])
    assert steps_of() is not steps_of(optimizer=OptimizerConfig(lr=1e-2, schedule="cosine"))
    assert steps_of() is not steps_of(graph=GraphConfig(graph="self"))
    assert steps_of() is not steps_of(epochs=5)
    # And each ends where it ends by itself.
    shared = [
        train(
            config(stores["pairs"], tmp_path / f"shared-{seed}", seed=seed),
            quiet=True,
            workspace=workspace,
        )
        for seed in (1, 2)
    ]
    alone = [
        train(config(stores["pairs"], tmp_path / f"alone-{seed}", seed=seed), quiet=True)
        for seed in (1, 2)
    ]
    assert [of["validation"] for of in shared] == [of["validation"] for of in alone]
    assert shared[1]["seconds"]["compile"] == 0
    for seed in (1, 2):
        for a, b in zip(
            arrays(tmp_path / f"shared-{seed}"), arrays(tmp_path / f"alone-{seed}"), strict=True
        ):
            np.testing.assert_array_equal(a, b)

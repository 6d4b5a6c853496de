"""`glot sweep` on synthetic stores.

It finishes, goes on, takes up what was stopped, and its best can be trained again.
"""

from __future__ import annotations

import json
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from support.synthetic_stores import make_store
from support.typed import present

from glot_jax import cli
from glot_jax.config.experiments import SweepConfig
from glot_jax.errors import UsageError
from glot_jax.experiments import sweep
from glot_jax.experiments.study import Study
from glot_jax.experiments.sweep import run_sweep
from glot_jax.experiments.sweep_trials import command_of

FIXED = {
    "weight_decay": (0.0,),
    "num_layers": (1,),
    "hidden_dim": (8,),
    "jk": ("cat",),
    "projection_dim": (0,),
    "tau": (0.3,),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(
        tmp_path_factory.mktemp("sweep") / "store", rows={"train": 40, "validation": 24}
    )


def settings(store, out, **changes):
    return SweepConfig(
        store=store,
        out=out,
        **{**FIXED, "epochs": 1, "batch_size": 8, "lr": (1e-3, 1e-2), "prune": False, **changes},
    )


def finished(out):
    study = optuna.load_study(study_name="glot", storage=f"sqlite:///{out / 'study.db'}")
    return [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]


def test_the_grid_is_tried_once_and_the_best_trains_again_to_its_score(store, tmp_path, capsys):
    config = settings(store, tmp_path / "sweep", sampler="grid", lr=(1e-3, 1e-2))
    trials = run_sweep(config)
    assert sorted(trial.values["lr"] for trial in trials) == [1e-3, 1e-2]
    written = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert written == [trial.to_json() for trial in trials]
    scores = [present(trial.score) for trial in trials]
    assert scores == sorted(scores, reverse=True)
    best = trials[0]
    reported = present(best.reported)
    assert set(reported) == {"holdout", "validation"}
    command = capsys.readouterr().out.replace("\n", " ").split("the best again: ")[1]
    assert shlex.split(command) == shlex.split(command_of(config, best.values, "runs/best"))
    again = shlex.split(command_of(config, best.values, str(tmp_path / "best")))
    assert again[:2] == ["python", "train.py"]
    assert cli.COMMANDS["train"](again[2:]) == 0
    summary = json.loads((tmp_path / "best" / "summary.json").read_text())
    assert {split: summary[split]["best"] for split in reported} == reported
    assert summary["holdout"]["best"]["accuracy"] == best.score
    # Nothing is left to do, and nothing is done.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep" / "trials").rglob("*")}
    assert run_sweep(config) == trials
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "sweep" / "trials").rglob("*")
    }


def test_a_sweep_goes_on_and_takes_up_the_trial_that_was_stopped(store, tmp_path, monkeypatch):
    config = settings(store, tmp_path / "sweep", sampler="random", trials=2, lr=(1e-3, 2e-3, 1e-2))
    begun = []

    def stopped(_config: object, trial: optuna.Trial, *_: object) -> float:
        begun.append(trial.params)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "train_trial", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(config)
    trials = run_sweep(config)
    complete = [trial for trial in trials if trial.state == "complete"]
    assert len(complete) == len(finished(tmp_path / "sweep")) == 2
    assert begun[0] in [trial.values for trial in complete]
    more = run_sweep(
        settings(store, tmp_path / "sweep", sampler="random", trials=3, lr=(1e-3, 2e-3, 1e-2))
    )
    numbers = {trial.number for trial in more if trial.state == "complete"}
    assert {trial.number for trial in complete} < numbers
    assert len(finished(tmp_path / "sweep")) == 3


def test_a_trial_that_falls_behind_is_stopped_after_its_epoch(store, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: self.number == 0)
    trials = run_sweep(settings(store, tmp_path / "sweep", sampler="grid", epochs=2, prune=True))
    assert sorted(trial.state for trial in trials) == ["complete", "pruned"]
    runs = {trial.state: Path(present(trial.run)) for trial in trials}
    assert not (runs["pruned"] / "summary.json").exists()
    epochs = {
        line["epoch"]
        for line in map(json.loads, (runs["pruned"] / "metrics.jsonl").read_text().splitlines())
    }
    assert epochs == {1}


def test_two_workers_share_one_study(store, tmp_path):
    trials = run_sweep(
        settings(
            store, tmp_path / "sweep", sampler="random", trials=5, workers=2, lr=(1e-3, 2e-3, 1e-2)
        )
    )
    rates = sorted(trial.values["lr"] for trial in trials if trial.state == "complete")
    assert rates == [1e-3, 2e-3, 1e-2]  # each once: there are no more


def test_a_worker_that_is_slow_to_choose_shares_no_trial_with_another(store, tmp_path, monkeypatch):
    config = settings(store, tmp_path / "sweep", sampler="grid", lr=(1e-3, 2e-3, 1e-2))
    suggest = optuna.trial.Trial.suggest_categorical
    trained = []

    def slow(trial, name, choices):
        if trial.number == 0:
            time.sleep(0.1)
        return suggest(trial, name, choices)

    monkeypatch.setattr(optuna.trial.Trial, "suggest_categorical", slow)

    def train_trial(_config: object, trial: optuna.Trial, *_: object) -> float:
        trained.append(trial.params["lr"])
        return 0.5

    monkeypatch.setattr(sweep, "train_trial", train_trial)
    config.out.mkdir()
    Study(config).metric = "accuracy"
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(lambda number: sweep.work(config, number), range(2)))
    assert sorted(trained) == [1e-3, 2e-3, 1e-2]


def test_bad_input_is_found_before_the_first_trial(store, tmp_path):
    with pytest.raises(UsageError, match="--jk must be one of"):
        run_sweep(settings(store, tmp_path / "sweep", jk=("cat", "sum")))
    with pytest.raises(UsageError, match="metric"):
        run_sweep(settings(store, tmp_path / "sweep", metric="bleu"))
    assert not (tmp_path / "sweep").exists()
    with pytest.raises(UsageError, match="--tau must have values that differ"):
        settings(store, tmp_path / "sweep", tau=(0.1, 0.1))
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "settings.json").write_text("{}")
    with pytest.raises(
        UsageError, match=r"a sweep must go on with its own settings; got store: None -> "
    ):
        run_sweep(settings(store, tmp_path / "sweep"))


def test_settings_that_a_copy_has_cut_are_explained(store, tmp_path):
    """This version writes them whole; earlier ones could be killed inside the write."""
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "settings.json").write_text('{\n "store": "a5a4')
    with pytest.raises(
        UsageError, match=r"settings.json must be a whole JSON file; got .*Delete it and give the"
    ):
        run_sweep(settings(store, tmp_path / "sweep"))

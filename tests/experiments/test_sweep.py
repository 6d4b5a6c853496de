"""`glot sweep` on synthetic stores.

It finishes, goes on, takes up what was stopped, and its best can be trained again.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from support.synthetic_stores import make_store
from support.typed import present

from glot_jax import cli
from glot_jax.config.axes import axis_of
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import ObjectiveConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments import sweep
from glot_jax.experiments.search_space import SearchSpace
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
    return SweepConfig(store=store, out=out, **{"prune": False, **changes})


def space_of(store, out, *, epochs=1, metric=None, **axes):
    base = TrainConfig(
        store=store,
        out=out,
        epochs=epochs,
        batch_size=8,
        objective=ObjectiveConfig(select_on="holdout", metric=metric),
    )
    axes = {**FIXED, "lr": (1e-3, 1e-2), **axes}
    return SearchSpace.create(base, {name: axis_of(name, axes[name]) for name in axes}, axes)


def finished(out):
    study = optuna.load_study(study_name="glot", storage=f"sqlite:///{out / 'study.db'}")
    return [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]


def test_the_grid_is_tried_once_and_the_best_trains_again_to_its_score(store, tmp_path, capsys):
    config = settings(store, tmp_path / "sweep", sampler="grid")
    space = space_of(store, tmp_path / "sweep")
    trials = run_sweep(config, space)
    assert sorted(trial.values["lr"] for trial in trials) == [1e-3, 1e-2]
    written = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert written == [trial.to_json() for trial in trials]
    scores = [present(trial.score) for trial in trials]
    assert scores == sorted(scores, reverse=True)
    best = trials[0]
    reported = present(best.reported)
    assert set(reported) == {"holdout", "validation"}
    command = capsys.readouterr().out.replace("\n", " ").split("the best again: ")[1]
    plain = TrainConfig(store=store, out=tmp_path)
    told = command_of(config, space, plain, best.values, "runs/best")
    assert shlex.split(command) == shlex.split(told)
    again = shlex.split(command_of(config, space, plain, best.values, str(tmp_path / "best")))
    assert again[:2] == ["python", "train.py"]
    assert cli.COMMANDS["train"](again[2:]) == 0
    summary = json.loads((tmp_path / "best" / "summary.json").read_text())
    assert {split: summary[split]["best"] for split in reported} == reported
    assert summary["holdout"]["best"]["accuracy"] == best.score
    # Nothing is left to do, and nothing is done.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep" / "trials").rglob("*")}
    assert run_sweep(config, space) == trials
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "sweep" / "trials").rglob("*")
    }


def test_a_sweep_goes_on_and_takes_up_the_trial_that_was_stopped(
    store, tmp_path, monkeypatch, capsys
):
    config = settings(store, tmp_path / "sweep", sampler="random", trials=2)
    space = space_of(store, tmp_path / "sweep", lr=(1e-3, 2e-3, 1e-2))
    begun = []

    def stopped(trial: optuna.Trial, *_: object) -> float:
        begun.append(trial.params)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "train_trial", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(config, space)
    assert "stopped; the same command goes on" in capsys.readouterr().err
    trials = run_sweep(config, space)
    complete = [trial for trial in trials if trial.state == "complete"]
    assert len(complete) == len(finished(tmp_path / "sweep")) == 2
    assert begun[0] in [trial.values for trial in complete]
    more = run_sweep(dataclasses.replace(config, trials=3), space)
    numbers = {trial.number for trial in more if trial.state == "complete"}
    assert {trial.number for trial in complete} < numbers
    assert len(finished(tmp_path / "sweep")) == 3


def test_a_trial_that_falls_behind_is_stopped_after_its_epoch(store, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: self.number == 0)
    config = settings(store, tmp_path / "sweep", sampler="grid", prune=True)
    trials = run_sweep(config, space_of(store, tmp_path / "sweep", epochs=2))
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
        settings(store, tmp_path / "sweep", sampler="random", trials=5, workers=2),
        space_of(store, tmp_path / "sweep", lr=(1e-3, 2e-3, 1e-2)),
    )
    rates = sorted(trial.values["lr"] for trial in trials if trial.state == "complete")
    assert rates == [1e-3, 2e-3, 1e-2]  # each once: there are no more


def test_a_worker_that_is_slow_to_choose_shares_no_trial_with_another(store, tmp_path, monkeypatch):
    config = settings(store, tmp_path / "sweep", sampler="grid")
    space = space_of(store, tmp_path / "sweep", lr=(1e-3, 2e-3, 1e-2))
    suggest = optuna.trial.Trial.suggest_categorical
    trained = []

    def slow(trial, name, choices):
        if trial.number == 0:
            time.sleep(0.1)
        return suggest(trial, name, choices)

    monkeypatch.setattr(optuna.trial.Trial, "suggest_categorical", slow)

    def train_trial(trial: optuna.Trial, *_: object) -> float:
        trained.append(trial.params["lr"])
        return 0.5

    monkeypatch.setattr(sweep, "train_trial", train_trial)
    config.out.mkdir()
    Study(config, space).metric = "accuracy"
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(lambda number: sweep.work(config, space, number), range(2)))
    assert sorted(trained) == [1e-3, 2e-3, 1e-2]


def test_bad_input_is_found_before_the_first_trial(store, tmp_path):
    out = tmp_path / "sweep"
    with pytest.raises(UsageError, match="--jk must be one of"):
        space_of(store, out, jk=("cat", "sum"))
    with pytest.raises(UsageError, match="settings of train.py"):
        space_of(store, out, speed=(1, 2))
    with pytest.raises(UsageError, match="metric"):
        run_sweep(settings(store, out), space_of(store, out, metric="bleu"))
    with pytest.raises(UsageError, match="a whole grid must have an end"):
        run_sweep(settings(store, out, sampler="grid"), space_of(store, out, tau=["0:1"]))
    assert not out.exists()
    out.mkdir()
    (out / "settings.json").write_text("{}")
    with pytest.raises(
        UsageError, match=r"a sweep must go on with its own settings; got store: None -> "
    ):
        run_sweep(settings(store, out), space_of(store, out))


def test_settings_that_a_copy_has_cut_are_explained(store, tmp_path):
    """This version writes them whole; earlier ones could be killed inside the write."""
    out = tmp_path / "sweep"
    out.mkdir()
    (out / "settings.json").write_text('{\n "store": "a5a4')
    with pytest.raises(
        UsageError, match=r"settings.json must be a whole JSON file; got .*Delete it and give the"
    ):
        run_sweep(settings(store, out), space_of(store, out))


def test_a_sweep_of_version_0_1_goes_on(store, tmp_path):
    """Its settings had no seeds, and no other settings than those that it named."""
    out = tmp_path / "sweep"
    config, space = settings(store, out, sampler="grid"), space_of(store, out)
    trials = run_sweep(config, space)
    path = out / "settings.json"
    written = json.loads(path.read_text())
    names = ("store", "space", "sampler", "prune", "epochs", "batch_size", "seed", "select_on")
    assert {*names, "metric", "seeds", "settings"} == set(written)
    assert written["space"] == {name: list(values) for name, values in FIXED.items()} | {
        "lr": [1e-3, 1e-2]
    }
    path.write_text(json.dumps({name: written[name] for name in (*names, "metric")}))
    assert run_sweep(config, space) == trials
    with pytest.raises(UsageError, match=r"seeds: \[\] -> \[1, 2\]"):
        run_sweep(dataclasses.replace(config, seeds=(1, 2)), space)
    other = space_of(store, out, dropout=(0.1, 0.2))
    with pytest.raises(UsageError, match=r"space: .* -> .*dropout"):
        run_sweep(config, other)
    fixed = SearchSpace.create(space.base, {**space.axes, "dropout": axis_of("dropout", [0.1])})
    with pytest.raises(UsageError, match=r"settings: .*dropout"):
        run_sweep(config, SearchSpace(fixed.base, space.axes))


def test_a_trial_of_several_seeds_is_judged_by_their_mean(store, tmp_path, capsys):
    out = tmp_path / "sweep"
    config = settings(store, out, sampler="grid", seeds=(1, 2))
    trials = run_sweep(config, space_of(store, out))
    assert len(trials) == 2
    for trial in trials:
        scores, reported = [], []
        for seed in (1, 2):
            path = Path(present(trial.run)) / f"seed-{seed}" / "summary.json"
            summary = json.loads(path.read_text())
            scores.append(summary["holdout"]["best"]["accuracy"])
            reported.append(summary["validation"]["best"]["accuracy"])
        assert trial.score == pytest.approx(sum(scores) / 2)
        assert trial.deviation == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
        told = present(trial.reported)["validation"]["accuracy"]
        assert told == pytest.approx(sum(reported) / 2)
    assert "--seeds 1 2" in capsys.readouterr().out


def test_layers_poolers_and_ranges_are_searched_and_unread_settings_are_not(store, tmp_path):
    out = tmp_path / "sweep"
    command = ["--store", store, "--out", out, "--space", "given", "--trials", "6", "--epochs", "1"]
    command += ["--pooler", "glot", "mean", "--layer", "-1", "--tau", "0.1:0.6", "--jk", "cat"]
    command += ["--hidden-dim", "4:8", "--lr", "1e-4:1e-2:log", "--batch-size", "8"]
    assert cli.COMMANDS["sweep"](list(map(str, command))) == 0
    trials = json.loads((out / "sweep.json").read_text())
    assert len(trials) == 6
    assert {trial["pooler"] for trial in trials} == {"glot", "mean"}
    for trial in trials:
        assert 1e-4 <= trial["lr"] <= 1e-2
        assert ("tau" in trial) == ("hidden_dim" in trial) == (trial["pooler"] == "glot")
        if "tau" in trial:
            assert 0.1 <= trial["tau"] <= 0.6
            assert trial["hidden_dim"] in range(4, 9)
        # What has one value is set and not searched.
        assert "jk" not in trial
        run = json.loads((Path(trial["run"]) / "config.json").read_text())["config"]
        assert run["optimizer"]["lr"] == trial["lr"]


def test_equal_scores_are_said_and_the_smallest_is_named(store, tmp_path, capsys):
    out = tmp_path / "sweep"
    config = settings(store, out, sampler="grid")
    # One step of next to no length: all that differs is the width.
    space = space_of(store, out, lr=(1e-12,), hidden_dim=(16, 8), jk=("cat", "max"))
    trials = run_sweep(config, space)
    scores = {trial.score for trial in trials}
    shown = capsys.readouterr().out
    if len(scores) == 1:
        assert "4 trials tie at accuracy" in shown
        assert "hidden_dim 16" in shown
        parameters = [present(trial.parameters) for trial in trials]
        assert parameters == sorted(parameters)
    assert "importance" not in shown or len(scores) > 1


def test_a_trial_that_fails_ends_no_other(store, tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep"
    train = sweep.train_trial

    def failing(trial: optuna.Trial, *rest: object) -> float:
        if trial.params["lr"] == 1e-3:
            raise UsageError("a loss must be finite", "nan in [/tmp/run]", "Lower the rate.")
        return cast("Any", train)(trial, *rest)

    monkeypatch.setattr(sweep, "train_trial", failing)
    config, space = settings(store, out, sampler="grid"), space_of(store, out)
    trials = run_sweep(config, space)
    assert [trial.state for trial in trials] == ["complete", "failed"]
    assert "a loss must be finite" in present(trials[1].reason)
    captured = capsys.readouterr()
    assert "failed: a loss must be finite" in captured.err
    assert "1 failed" in captured.out
    # It is not tried again.
    assert run_sweep(config, space) == trials


def test_a_sweep_that_can_train_nothing_ends(store, tmp_path, monkeypatch):
    def failing(*_: object) -> float:
        raise UsageError("a loss must be finite", "nan", "Lower the rate.")

    monkeypatch.setattr(sweep, "train_trial", failing)
    space = space_of(store, tmp_path, lr=(1e-5, 1e-4, 1e-3, 1e-2))
    with pytest.raises(UsageError, match="a loss must be finite"):
        run_sweep(settings(store, tmp_path, sampler="grid"), space)
    assert len(Study(settings(store, tmp_path), space).results()) == 3

"""The study of a sweep: samplers, combinations, trials that were stopped; nothing is trained."""

from __future__ import annotations

import pytest
from support.typed import present

from glot_jax.config.experiments import SPACE, SweepConfig
from glot_jax.experiments.study import Study

SMALL = {
    "weight_decay": (0.0,),
    "num_layers": (1,),
    "hidden_dim": (8,),
    "jk": ("cat",),
    "projection_dim": (0,),
    "tau": (0.3,),
}


def settings(tmp_path, **changes) -> SweepConfig:
    return SweepConfig(
        store=tmp_path / "store",
        out=tmp_path,
        **{**SMALL, "lr": (1e-3, 1e-2), "prune": False, **changes},
    )


@pytest.mark.parametrize("sampler", ["tpe", "grid", "random"])
def test_every_combination_is_tried_once(tmp_path, sampler):
    study = Study(settings(tmp_path, sampler=sampler, tau=(0.1, 0.3), trials=4))
    tried = []
    while (trial := study.next_trial()) is not None:
        tried.append((trial.params["lr"], trial.params["tau"]))
        study.tell_score(trial, 0.5)
    assert sorted(tried) == [(1e-3, 0.1), (1e-3, 0.3), (1e-2, 0.1), (1e-2, 0.3)]
    assert study.finished() == 4


def test_a_trial_that_was_running_is_begun_again(tmp_path):
    config = settings(tmp_path, sampler="random")
    stopped = present(Study(config).next_trial())
    study = Study(config)
    study.take_up_again()
    assert present(study.next_trial()).params == stopped.params


def test_the_best_stands_first_and_the_pruned_last(tmp_path):
    study = Study(settings(tmp_path, lr=(1e-4, 1e-3, 1e-2), trials=3, sampler="grid"))
    for score in (0.25, 0.75):
        study.tell_score(present(study.next_trial()), score)
    fallen = present(study.next_trial())
    fallen.report(0.9, 1)
    study.tell_pruned(fallen)
    results = study.results()
    assert [trial.state for trial in results] == ["complete", "complete", "pruned"]
    assert [trial.score for trial in results[:2]] == [0.75, 0.25]
    assert set(results[0].values) == set(SPACE)


def test_too_little_variation_explains_nothing(tmp_path):
    study = Study(settings(tmp_path, sampler="grid"))
    for _ in range(2):
        study.tell_score(present(study.next_trial()), 0.5)
    assert study.importance() == {}


def test_processes_share_the_name_of_the_metric(tmp_path):
    config = settings(tmp_path)
    Study(config).metric = "mcc"
    assert Study(config, sampler_seed=7).metric == "mcc"

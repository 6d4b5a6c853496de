"""The study of a sweep: samplers, combinations, trials that were stopped; nothing is trained."""

from __future__ import annotations

import pytest
from support.typed import present

from glot_jax.config.axes import TABLE_6, Choices, Range, axis_of
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import TrainConfig
from glot_jax.experiments.search_space import SearchSpace
from glot_jax.experiments.study import Study

SMALL = {
    "weight_decay": (0.0,),
    "num_layers": (1,),
    "hidden_dim": (8,),
    "jk": ("cat",),
    "projection_dim": (0,),
    "tau": (0.3,),
}


def study_of(tmp_path, axes=(), sampler_seed=None, **changes) -> Study:
    config = SweepConfig(
        store=tmp_path / "store",
        out=tmp_path,
        **{"prune": False, **changes},
    )
    base = TrainConfig(store=config.store, out=config.out)
    values = {**SMALL, "lr": (1e-3, 1e-2), **dict(axes)}
    space = SearchSpace.create(base, {name: axis_of(name, values[name]) for name in values}, values)
    return Study(config, space, sampler_seed)


@pytest.mark.parametrize("sampler", ["tpe", "grid", "random"])
def test_every_combination_is_tried_once(tmp_path, sampler):
    study = study_of(tmp_path, {"tau": (0.1, 0.3)}, sampler=sampler, trials=4)
    tried = []
    while (trial := study.next_trial()) is not None:
        tried.append((trial.params["lr"], trial.params["tau"]))
        study.tell_score(trial, 0.5)
    assert sorted(tried) == [(1e-3, 0.1), (1e-3, 0.3), (1e-2, 0.1), (1e-2, 0.3)]
    assert study.finished() == 4


def test_a_trial_that_was_running_is_begun_again(tmp_path):
    stopped = present(study_of(tmp_path, sampler="random").next_trial())
    study = study_of(tmp_path, sampler="random")
    study.take_up_again()
    assert present(study.next_trial()).params == stopped.params


def test_the_best_stands_first_and_the_pruned_last(tmp_path):
    study = study_of(tmp_path, {"lr": (1e-4, 1e-3, 1e-2)}, trials=3, sampler="grid")
    for score in (0.25, 0.75):
        study.tell_score(present(study.next_trial()), score)
    fallen = present(study.next_trial())
    fallen.report(0.9, 1)
    study.tell_pruned(fallen)
    results = study.results()
    assert [trial.state for trial in results] == ["complete", "complete", "pruned"]
    assert [trial.score for trial in results[:2]] == [0.75, 0.25]
    assert set(results[0].values) == set(TABLE_6)


def test_too_little_variation_explains_nothing(tmp_path):
    study = study_of(tmp_path, sampler="grid")
    for _ in range(2):
        study.tell_score(present(study.next_trial()), 0.5)
    assert study.importance() == {}


def test_processes_share_the_name_of_the_metric(tmp_path):
    study_of(tmp_path).metric = "mcc"
    assert study_of(tmp_path, sampler_seed=7).metric == "mcc"


def test_one_setting_that_varies_has_no_importance(tmp_path):
    """It would explain all there is, whatever that is."""
    study = study_of(tmp_path, {"lr": (1e-5, 1e-4, 1e-3, 1e-2)}, sampler="grid")
    for score in (0.1, 0.2, 0.3, 0.4):
        study.tell_score(present(study.next_trial()), score)
    assert study.importance() == {}


def test_the_setting_that_decides_the_score_explains_it(tmp_path):
    axes = {"lr": (1e-4, 1e-3, 1e-2), "tau": (0.1, 0.3, 0.6)}
    study = study_of(tmp_path, axes, sampler="grid")
    while (trial := study.next_trial()) is not None:
        study.tell_score(trial, trial.params["tau"] + trial.params["lr"])
    importance = study.importance()
    assert set(importance) == {"lr", "tau"}
    assert importance["tau"] > 0.9


@pytest.mark.parametrize("sampler", ["tpe", "grid", "random"])
def test_settings_that_a_pooler_does_not_read_make_no_further_trials(tmp_path, sampler):
    axes = {"pooler": ("mean", "glot"), "lr": (1e-3,), "tau": (0.1, 0.3, 0.6)}
    study = study_of(tmp_path, axes, sampler=sampler)
    tried = []
    while (trial := study.next_trial()) is not None:
        values = present(study.values_of(trial))
        tried.append((values["pooler"], values.get("tau")))
        study.tell_score(trial, 0.5)
    assert sorted(tried, key=str) == sorted(
        [("mean", None), ("glot", 0.1), ("glot", 0.3), ("glot", 0.6)], key=str
    )


def test_lists_are_values_like_others(tmp_path):
    axes = {"mix_layers": ([1, 2], [3, 6]), "lr": (1e-3,)}
    study = study_of(tmp_path, axes, sampler="grid")
    tried = []
    while (trial := study.next_trial()) is not None:
        tried.append(present(study.values_of(trial))["mix_layers"])
        study.tell_score(trial, 0.5)
    assert sorted(tried) == [[1, 2], [3, 6]]


def test_a_range_without_an_end_stops_at_the_trials_that_were_asked_for(tmp_path):
    axes = {"lr": ["1e-5:1e-2:log"]}
    assert study_of(tmp_path, axes).target == 24
    assert study_of(tmp_path, axes, trials=3).target == 3
    # A range that no trial reads leaves one trial, which is not told by counting.
    study = study_of(tmp_path, {"pooler": ("mean",), "tau": ["0.1:0.6"], "lr": (1e-3,)})
    study.tell_score(present(study.next_trial()), 0.5)
    assert study.next_trial() is None
    assert study.finished() == 1


def test_how_many_trials_there_are(tmp_path):
    assert study_of(tmp_path, {"hidden_dim": (8, 16)}).target == 4
    assert study_of(tmp_path, {"hidden_dim": (8, 16)}, trials=3).target == 3
    assert study_of(tmp_path, {"hidden_dim": (8, 16)}, trials=30).target == 4
    table = {name: axis.values for name, axis in TABLE_6.items()}
    assert study_of(tmp_path, table).target == 24
    assert study_of(tmp_path, table, sampler="grid").target == 3 * 3 * 2 * 3 * 4 * 3 * 3


def test_whole_ranges_are_of_whole_numbers(tmp_path):
    study = study_of(tmp_path, {"hidden_dim": ["8:10"], "lr": (1e-3,)}, sampler="grid")
    assert study.space.axes["hidden_dim"] == Range(8, 10)
    assert study.space.axes["jk"] == Choices(("cat",))
    tried = []
    while (trial := study.next_trial()) is not None:
        tried.append(trial.params["hidden_dim"])
        study.tell_score(trial, 0.5)
    assert sorted(tried) == [8, 9, 10]

"""Which combinations a comparison has, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.flat import with_values
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.grid import grid_of, meaning_of

BASE = TrainConfig(store=Path("store"), out=Path("out"))


def test_what_means_the_same_is_there_once():
    axes = {
        "pooler": ["mean", "adapool", "glot"],
        "gnn": ["gat", "gin"],
        "graph": ["threshold", "self"],
    }
    grid = grid_of(BASE, axes)
    assert [combination.label for combination in grid.combinations] == [
        "mean",
        "adapool",
        "glot, gat, graph threshold",
        "glot, gat, graph self",
        "glot, gin, graph threshold",
        "glot, gin, graph self",
    ]
    assert grid.repeats == 12 - 6
    folders = [combination.folder for combination in grid.combinations]
    assert folders[-1] == "glot_gin_graph-self"
    assert len(set(folders)) == len(folders)


def test_a_setting_that_some_do_not_read_is_told_of_the_others_alone():
    grid = grid_of(BASE, {"pooler": ["glot"], "graph": ["threshold", "knn"], "tau": [0.3, 0.6]})
    # knn reads no threshold.
    assert [combination.label for combination in grid.combinations] == [
        "glot, graph threshold, tau 0.3",
        "glot, graph threshold, tau 0.6",
        "glot, graph knn",
    ]


def test_one_value_sets_and_names_nothing():
    grid = grid_of(BASE, {"pooler": ["mean", "max"], "epochs": [7], "lr": [1e-3]})
    assert [combination.folder for combination in grid.combinations] == ["mean", "max"]
    assert {combination.config.epochs for combination in grid.combinations} == {7}
    assert grid.combinations[0].config.optimizer.lr == 1e-3


def test_lists_and_nothing_are_values_too():
    axes = {"mix_layers": [[1, 2], [2, 3]], "clip_norm": [None, 1.0]}
    grid = grid_of(BASE, axes)
    assert grid.combinations[1].label == "glot, mix layers 1 2, clip norm 1"
    assert grid.combinations[0].config.mix_layers == (1, 2)
    assert grid.combinations[0].config.optimizer.clip_norm is None


def test_a_name_that_is_too_long_for_a_folder_is_cut_and_stays_different():
    layers = [list(range(count)) for count in (40, 41, 42)]
    grid = grid_of(BASE, {"mix_layers": layers})
    folders = [combination.folder for combination in grid.combinations]
    assert len(set(folders)) == 3
    assert max(map(len, folders)) <= 120


def test_meaning_is_blind_to_the_seed_the_places_and_what_is_not_read():
    mean = with_values(BASE, {"pooler": "mean"})
    assert meaning_of(mean) == meaning_of(with_values(mean, {"tau": 0.1, "hidden_dim": 8}))
    assert meaning_of(mean) != meaning_of(with_values(mean, {"lr": 0.1}))
    assert meaning_of(BASE) != meaning_of(with_values(BASE, {"tau": 0.1}))


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"tau": [0.3, 2.0]}, "--tau must be"),
        ({"tau": []}, "must have a value; got tau without one"),
        ({"tau": [0.3, 0.3]}, "different from one another; got tau 0.3 0.3"),
        ({"towel": [1]}, "settings of train.py; got towel"),
        ({"seed": [1, 2]}, "settings of train.py; got seed"),
        ({"epochs": ["many"]}, "epochs"),
        ({"heads": [3], "hidden_dim": [128]}, "--heads"),
        ({"jk": ["cat", "dog"]}, "--jk must be"),
    ],
)
def test_what_cannot_be_is_refused(axes, said):
    with pytest.raises(UsageError, match=said):
        grid_of(BASE, axes)

"""Lines about what a run decides by itself."""

from __future__ import annotations

import pytest
from support.head_runs import config
from support.synthetic_stores import CLASSES, PAIRS, make_store

from glot_jax.config.train import ObjectiveConfig
from glot_jax.texts.tasks import TASKS
from glot_jax.training import loop, train_seeds
from glot_jax.training.notices import (
    idle_hardware,
    read_by_others,
    unread_by_pooler,
    unread_by_task,
)

EMBEDDING = ["embedding_head", "embedding_vectors", "loss_temperature", "hard_negatives"]


@pytest.mark.parametrize(
    ("task", "unread"),
    [
        (CLASSES, ["pair_features", *EMBEDDING]),
        (PAIRS, EMBEDDING),
        (TASKS["embedding"], ["pair_features", "class_weight", "class_weights"]),
    ],
)
def test_options_of_other_tasks(task, unread):
    assert read_by_others(task) == unread


@pytest.mark.parametrize(
    ("platform", "devices", "cores", "said"),
    [
        ("cpu", 1, 2, ""),
        ("cpu", 8, 15, ""),
        ("cpu", 1, 16, "16 cores, of which the steps of a small head leave most idle"),
        ("gpu", 1, 64, ""),
        ("gpu", 4, 64, "4 devices, of which a run uses the first"),
    ],
)
def test_idle_hardware_is_said(platform, devices, cores, said):
    lines = idle_hardware(platform, devices, cores)
    assert len(lines) == bool(said)
    assert said in "".join(lines)


def test_seeds_say_it_once(tmp_path, monkeypatch, capfd):
    store = make_store(tmp_path / "store")
    monkeypatch.setattr(loop, "idle_hardware", lambda *_: ["64 cores"])
    train_seeds(config(store, tmp_path / "runs", epochs=1), [1, 2])
    assert capfd.readouterr().err.count("64 cores") == 1


def test_only_what_was_given_is_reported():
    changed = ObjectiveConfig(hard_negatives=3)
    line = "not read for a task of kind single: --hard-negatives"
    assert unread_by_task(changed, CLASSES, None) == [line]
    assert unread_by_task(changed, CLASSES, ["metric"]) == []
    assert unread_by_task(ObjectiveConfig(), CLASSES, ["hard_negatives"]) == [line]
    assert unread_by_task(changed, TASKS["embedding"], None) == []
    assert unread_by_pooler({}) == []
    assert unread_by_pooler({"tau": 0.5}) == ["not read with these settings: --tau"]

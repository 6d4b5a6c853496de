"""Lines about what a run decides by itself."""

from __future__ import annotations

import pytest
from support.synthetic_stores import CLASSES, PAIRS

from glot_jax.config.train import ObjectiveConfig
from glot_jax.texts.tasks import TASKS
from glot_jax.training.notices import read_by_others, unread_by_pooler, unread_by_task

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


def test_only_what_was_given_is_reported():
    changed = ObjectiveConfig(hard_negatives=3)
    line = "not read for a task of kind single: --hard-negatives"
    assert unread_by_task(changed, CLASSES, None) == [line]
    assert unread_by_task(changed, CLASSES, ["metric"]) == []
    assert unread_by_task(ObjectiveConfig(), CLASSES, ["hard_negatives"]) == [line]
    assert unread_by_task(changed, TASKS["embedding"], None) == []
    assert unread_by_pooler({}) == []
    assert unread_by_pooler({"tau": 0.5}) == ["not read with these settings: --tau"]

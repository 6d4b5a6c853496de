"""Batches that a program gathers: the same as those that are made beforehand."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from support.head_runs import config
from support.ranking_stores import make_ranking_store, topic_groups
from support.typed import of_kind

from glot_jax.batches.placement import DeviceStates
from glot_jax.batches.planned_batches import run_lengths
from glot_jax.config.train import ObjectiveConfig
from glot_jax.run_folders.run_log import Display
from glot_jax.training.prepare import prepare


def store_of(kind: str, stores: dict[str, Path], folder: Path) -> Path:
    if kind != "embedding":
        return stores[kind]
    groups = {"train": topic_groups(30, 1), "validation": topic_groups(14, 2)}
    return make_ranking_store(folder / "store", groups)


@pytest.mark.parametrize("kind", ["classes", "pairs", "embedding"])
def test_a_gathered_batch_is_the_planned_one(stores, tmp_path, kind):
    store = store_of(kind, stores, tmp_path)
    objective = ObjectiveConfig(embedding_head="linear")
    settings = config(store, tmp_path / "run", cache="device", objective=objective, buckets=2)
    run = prepare(settings, Display(quiet=True))
    for split, feed in run.feeds.items():
        steps = feed.plan.steps_per_epoch
        tokens = of_kind(feed.states, DeviceStates).tokens
        # Of the second epoch, whose hard negatives are others.
        first = steps if split == "train" else 0
        planned = feed.planned(first, first + steps)
        assert len(planned) == steps
        for number in range(steps):
            expected = feed.batch(first + number)
            length = feed.plan.batch(first + number).length
            gathered = planned.gather(tokens, jax.numpy.int32(number), length)
            for left, right in zip(
                jax.tree.leaves(gathered), jax.tree.leaves(expected), strict=True
            ):
                np.testing.assert_array_equal(left, right)
                assert left.dtype == right.dtype


def test_run_lengths_lead_to_the_next_change():
    padded = np.array([4, 4, 8, 4, 4, 4])
    assert run_lengths(padded).tolist() == [2, 1, 1, 3, 2, 1]
    assert run_lengths(np.array([4])).tolist() == [1]

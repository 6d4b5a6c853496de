"""How rows become feeds, and which of them are held out together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.ranking_stores import Group, make_ranking_store, topic_groups
from support.runs import config

from glot_jax.batches.ranking_feed import PairFeed, TextFeed
from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.training.prepare import prepare

LINEAR = ObjectiveConfig(embedding_head="linear")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    groups = {"train": topic_groups(30, 1), "validation": topic_groups(14, 2)}
    return make_ranking_store(tmp_path_factory.mktemp("ranking") / "store", groups)


def test_a_holdout_is_of_whole_queries(store, tmp_path):
    held_out = dataclasses.replace(LINEAR, select_on="holdout")
    run = prepare(config(store, tmp_path / "run", objective=held_out), Display(quiet=True))
    train_feed, held = run.feeds["train"], run.feeds["holdout"]
    assert isinstance(train_feed, PairFeed)
    assert isinstance(held, TextFeed)
    assert len(held.groups.rows) == 3
    trained = train_feed.stored_rows(np.arange(len(train_feed.pairs)))
    assert sorted({*trained.tolist()} | {*held.groups.rows.tolist()}) == list(range(30))
    assert not {*trained.tolist()} & {*held.groups.rows.tolist()}


def test_rows_of_one_query_stay_together(tmp_path):
    groups = topic_groups(20, 5)
    groups = [
        (groups[row % 7][0], positives, negatives)
        for row, (_, positives, negatives) in enumerate(groups)
    ]  # seven queries
    store = make_ranking_store(
        tmp_path / "store", {"train": groups, "validation": topic_groups(3, 6)}
    )
    for seed in range(4):
        run = prepare(
            config(
                store,
                tmp_path / "run",
                seed=seed,
                objective=dataclasses.replace(LINEAR, select_on="holdout"),
            ),
            Display(quiet=True),
        )
        train_feed, held = run.feeds["train"], run.feeds["holdout"]
        assert isinstance(train_feed, PairFeed)
        assert isinstance(held, TextFeed)
        assert len({groups[row][0] for row in held.groups.rows}) == 1
        assert not {row % 7 for row in held.groups.rows.tolist()} & {
            row % 7 for row in train_feed.stored_rows(np.arange(len(train_feed.pairs))).tolist()
        }
        assert len(held.groups.rows) in (2, 3)


def test_a_holdout_without_negatives_has_two_queries_to_rank_among(tmp_path):
    pairs: list[Group] = [(query, positives, []) for query, positives, _ in topic_groups(8, 5)]
    store = make_ranking_store(tmp_path / "store", {"train": pairs})
    run = prepare(config(store, tmp_path / "run", objective=LINEAR), Display(quiet=True))
    held = run.feeds["validation"]
    assert isinstance(held, TextFeed)
    assert len(held.groups.rows) == 2


def test_a_split_without_anything_to_tell_apart_is_refused(tmp_path):
    groups: list[Group] = [("0/q", ["0/a"], []), ("0/r", ["0/a"], [])]
    folder = make_ranking_store(
        tmp_path / "store", {"train": topic_groups(4, 9), "validation": groups}
    )
    with pytest.raises(
        UsageError,
        match="must have a relevant and another candidate; got validation, whose 2 queries",
    ):
        prepare(config(folder, tmp_path / "run", objective=LINEAR), Display(quiet=True))

"""Pairs that are trained on, and what is ranked for whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.ranking_stores import make_ranking_store, topic_groups
from support.runs import config

from glot_jax.batches.ranking_feed import PairFeed, TextFeed
from glot_jax.config.train import ObjectiveConfig
from glot_jax.run_folders.run_log import Display
from glot_jax.training.prepare import prepare

LINEAR = ObjectiveConfig(embedding_head="linear")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    groups = {"train": topic_groups(30, 1), "validation": topic_groups(14, 2)}
    return make_ranking_store(tmp_path_factory.mktemp("ranking") / "store", groups)


def made(store: Path, out: Path, **changes):
    return prepare(config(store, out, objective=LINEAR, **changes), Display(quiet=True))


def test_batches_ignore_length_and_are_padded_to_their_own_longest(store, tmp_path):
    run = made(store, tmp_path / "run", buckets=3)
    feed = run.feeds["train"]
    assert isinstance(feed, PairFeed)
    assert feed.plan.steps_per_epoch == -(-66 // 8)
    for epoch in (0, 1):
        seen = []
        for step in range(epoch * run.steps_per_epoch, (epoch + 1) * run.steps_per_epoch):
            planned, batch = feed.plan.batch(step), feed.batch(step)
            real = planned.rows >= 0
            seen += planned.rows[real].tolist()
            longest = int(np.asarray(batch.mask).sum(axis=1).max())
            assert planned.length == min(bound for bound in feed.plan.bounds if bound >= longest)
            assert batch.labels.shape == (8, 3)
            assert batch.labels.dtype == np.int32
            assert (batch.labels[~real] == -1).all()
            assert not np.asarray(batch.mask).reshape(3, 8, -1)[:, ~real].any()
            texts = feed.pairs.texts(planned.rows[real], epoch)
            for slot in range(3):
                lengths = np.asarray(batch.mask).reshape(3, 8, -1)[slot].sum(axis=1)[real]
                np.testing.assert_array_equal(lengths, feed.reader.text_lengths[texts[:, slot]])
        assert sorted(seen) == list(range(66))
    # Random partners: the lengths of a batch are not sorted.
    spread = [
        np.ptp(feed.plan.lengths[feed.plan.batch(step).rows])
        for step in range(run.steps_per_epoch - 1)
    ]
    assert max(spread) > 3


def rankings(folder: Path, groups: list, **options) -> tuple[TextFeed, list]:
    store = make_ranking_store(
        folder / "store", {"train": topic_groups(4, 9), "validation": groups}, **options
    )
    feed = prepare(config(store, folder / "run", objective=LINEAR), Display(quiet=True)).feeds[
        "validation"
    ]
    assert isinstance(feed, TextFeed)
    texts = [
        name for query, positives, negatives in groups for name in (query, *positives, *negatives)
    ]
    names = [texts[text] for text in feed.texts[:, 0]]
    vectors = np.random.default_rng(0).normal(size=(len(names), 5)).astype(np.float32)
    found = []
    for (scores, relevant), group in zip(feed.rankings(vectors), feed.judged, strict=True):
        candidates, _ = feed.candidates(int(group))
        np.testing.assert_allclose(
            scores, vectors[candidates] @ vectors[feed.query[group]], rtol=1e-5, atol=1e-6
        )
        found.append(
            (
                int(group),
                {names[text]: bool(flag) for text, flag in zip(candidates, relevant, strict=True)},
            )
        )
    return feed, found


def test_a_query_ranks_its_own_candidates(tmp_path):
    groups = [
        ("0/q", ["0/a", "0/b"], ["1/n", "1/m"]),
        ("0/r", ["0/c"], []),
        ("0/s", ["0/a"], ["0/c"]),
    ]
    feed, found = rankings(tmp_path, groups)
    assert found == [
        (0, {"0/a": True, "0/b": True, "1/n": False, "1/m": False}),
        (2, {"0/a": True, "0/c": False}),
    ]
    assert len(feed.texts) == 8  # 0/a and 0/c are encoded once


def test_without_negatives_all_positives_are_candidates(tmp_path):
    groups = [
        ("0/q", ["0/a"], []),
        ("0/r", ["0/b"], []),
        ("0/q", ["0/c"], []),
        ("0/b", ["0/a", "0/d"], []),
    ]
    _, found = rankings(tmp_path, groups)
    of_q = {"0/a": True, "0/b": False, "0/c": True, "0/d": False}
    assert found == [
        (0, of_q),
        (1, {"0/a": False, "0/b": True, "0/c": False, "0/d": False}),
        (2, of_q),
        (3, {"0/a": True, "0/c": False, "0/d": True}),
    ]

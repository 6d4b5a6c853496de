"""Batches of a plan, from wherever the states wait."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.synthetic_stores import CLASSES, PAIRS, make_store
from support.typed import present

from glot_jax.batches.feed import Feed, describe_feed, longest_text_per_row, tokens_per_text
from glot_jax.batches.placement import place_states
from glot_jax.batches.plan import BatchPlan
from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> HiddenStore:
    return HiddenStore(make_store(tmp_path_factory.mktemp("store") / "store", PAIRS))


def feed_of(store: HiddenStore, cache: str, batch_size: int = 16) -> Feed:
    reader = store["train"]
    plan = BatchPlan(
        np.arange(len(reader)), longest_text_per_row(reader), (12,), batch_size, seed=None
    )
    return Feed(reader, plan, place_states(reader, cache))


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_texts_of_a_row_are_stacked_and_filling_rows_are_empty(store, cache):
    feed = feed_of(store, cache)
    reader = feed.reader
    for step, batch in feed.batches(0, feed.plan.steps_per_epoch):
        rows = feed.plan.batch(step).rows
        hidden = np.asarray(batch.hidden)
        mask = np.asarray(batch.mask)
        np.testing.assert_array_equal(batch.row_mask, rows >= 0)
        for index, row in enumerate(rows):
            for role in range(2):
                text = hidden[role * 16 + index][mask[role * 16 + index]]
                if row < 0:
                    assert len(text) == 0
                else:
                    np.testing.assert_array_equal(text, reader.states(2 * int(row) + role))
        np.testing.assert_array_equal(
            batch.labels[rows >= 0], present(reader.labels)[rows[rows >= 0]]
        )
        assert not batch.labels[rows < 0].any()
    assert feed.waited > 0


def test_what_is_planned_is_in_the_order_of_the_plan(store):
    reader = store["train"]
    rows = np.array([7, 2, 30])
    lengths = longest_text_per_row(reader)[rows]
    feed = Feed(reader, BatchPlan(rows, lengths, (12,), 2, None), place_states(reader, "host"))
    np.testing.assert_array_equal(feed.planned_labels, reader.labels[rows])
    np.testing.assert_array_equal(feed.planned_lengths, tokens_per_text(reader)[rows])
    assert feed.texts_per_batch == 4


def test_the_line_says_where_the_states_are(store):
    line = describe_feed(store, {"train": feed_of(store, "none")})
    assert "40 training rows; buckets 12 tokens" in line
    assert line.endswith("MB of states on disk")
    assert "on the host, where" in describe_feed(store, {"test": feed_of(store, "host")})


def test_a_store_without_labels_cannot_be_fed(tmp_path):
    bare = dataclasses.replace(CLASSES, label_kind="none", label_column=None, metrics=())
    store = HiddenStore(make_store(tmp_path / "store", bare))
    with pytest.raises(UsageError, match="need labels; got a store without"):
        feed_of(store, "host")

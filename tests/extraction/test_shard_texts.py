"""Which shard holds which texts: the same ones, however the texts are read."""

from __future__ import annotations

import numpy as np
from support.dump_case import run, write_rows
from support.extraction_case import tree
from support.typed import present

from glot_jax.extraction.shard_texts import ShardTexts
from glot_jax.store import HiddenStore


def test_shards_are_cut_at_the_same_texts_however_they_are_read(make, monkeypatch):
    first = make("first")
    run(first)
    monkeypatch.setattr("glot_jax.extraction.shard_texts.CHUNK_ROWS", 3)
    second = make("second")
    run(second)
    assert tree(first.out) == tree(second.out)
    lengths = [shard.tokens for shard in HiddenStore(first.out).manifest.splits["train"].shards]
    assert all(60 <= tokens < 60 + 64 for tokens in lengths[:-1])


def test_pairs_stay_together_and_regression_labels_are_kept(make, tmp_path):
    data = write_rows(tmp_path / "pairs", pairs=True, label=lambda row: row / 4)
    store, _ = run(make(data=data, text_columns=("text0", "text1")))
    split = store["train"]
    assert split.texts_per_row == 2
    labels = present(split.labels)
    assert labels.dtype == np.float32
    assert labels.tolist() == [row / 4 for row in range(30)]
    assert split.roles.tolist() == [0, 1] * 30
    assert all(count % 2 == 0 for count in np.diff(split.shard_texts))
    assert store.task["roles"] == ["a", "b"]


def test_batches_are_of_similar_lengths_longest_first_within_the_budget():
    lengths = np.array([3, 0, 9, 4, 30], np.int32)
    texts = ShardTexts(lengths, np.zeros(46, np.int32), np.arange(5), truncated=0, empty=0)
    batches = [batch.tolist() for batch in texts.batches(12)]
    # Text 4 is longer than the budget and goes alone; text 1 has no token and needs no pass.
    assert batches == [[4], [2], [3, 0]]
    assert texts.offsets.tolist() == [0, 3, 3, 12, 16, 46]

"""Queries with their texts, by number."""

from __future__ import annotations

import numpy as np
from support.ranking_stores import Group, make_ranking_store

from glot_jax import HiddenStore
from glot_jax.batches.query_groups import Groups, QueryPairs, identities


def test_every_negative_comes_up_before_one_comes_back(tmp_path):
    groups = [
        ("0/q", ["0/a", "0/b"], [f"1/{index}" for index in range(7)]),
        ("0/r", ["0/c"], []),
        ("0/s", ["0/d"], ["1/x"]),
    ]
    reader = HiddenStore(make_ranking_store(tmp_path / "store", {"train": groups}))["train"]
    pairs = QueryPairs(Groups(reader, np.arange(3)), 2)
    assert pairs.group.tolist() == [0, 0, 1, 2]
    epochs = [pairs.texts(np.arange(4), epoch) for epoch in range(7)]
    # Stored texts: 0 query, 1 2 positives, 3 .. 9 negatives; 10 11; 12 13 14.
    assert epochs[0].tolist() == [[0, 1, 3, 4], [0, 2, 5, 6], [10, 11, -1, -1], [12, 13, 14, -1]]
    assert epochs[1].tolist()[:2] == [[0, 1, 7, 8], [0, 2, 9, 3]]
    counts = np.bincount(np.concatenate([texts[:2, 2:].reshape(-1) for texts in epochs]))[3:10]
    assert counts.tolist() == [4] * 7
    assert QueryPairs(Groups(reader, np.array([2])), 0).texts(np.array([0]), 5).tolist() == [
        [12, 13]
    ]


def test_equal_texts_are_known_by_their_tokens(tmp_path):
    groups: list[Group] = [("0/q", ["0/a"], ["1/n"]), ("0/r", ["0/a"], ["0/q"])]
    reader = HiddenStore(make_ranking_store(tmp_path / "store", {"train": groups}))["train"]
    assert identities(reader, np.arange(6)).tolist() == [0, 1, 2, 3, 1, 0]
    assert identities(reader, np.array([4, 5])).tolist() == [-1, -1, -1, -1, 4, 5]

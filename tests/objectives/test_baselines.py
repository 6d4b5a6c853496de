"""Baselines read labels and lengths alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from support.synthetic_stores import CLASSES, SCORE

from glot_jax.objectives.baselines import (
    length_baseline,
    majority,
    query_baselines,
    row_baselines,
)


def test_majority_is_the_commonest_training_class():
    scores = majority(np.array([1, 1, 0]), np.array([1, 0, 0, 0]), CLASSES)
    assert scores["accuracy"] == 0.25
    assert majority(np.array([0.5, 2.0]), np.array([0.1, 0.4]), SCORE) == {
        "spearman": 0.0,
        "pearson": 0.0,
    }


def test_lengths_that_tell_the_classes_apart_are_found():
    lengths = np.array([[2], [3], [2], [20], [30], [25]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert length_baseline(lengths, labels, lengths, labels, CLASSES)["accuracy"] == 1
    rows = SimpleNamespace(planned_lengths=lengths, planned_labels=labels)
    assert row_baselines(rows, rows, CLASSES)["length"]["accuracy"] == 1
    # Of one class alone there is nothing to learn.
    ones = np.ones(6, int)
    assert length_baseline(lengths, ones, lengths, labels, CLASSES)["accuracy"] == 0.5


def rankings(*queries: tuple[list[int], list[bool]]) -> SimpleNamespace:
    pairs = [(np.array(lengths), np.array(relevant)) for lengths, relevant in queries]
    return SimpleNamespace(length_rankings=lambda: iter(pairs))


def test_short_candidates_come_first_where_training_queries_say_so():
    judged = rankings(([3, 9, 8], [True, False, False]))
    short = rankings(([1, 5], [True, False]))
    long = rankings(([5, 1], [True, False]))
    assert query_baselines(short, judged)["length"]["mrr"] == 1
    assert query_baselines(long, judged)["length"]["mrr"] == 1 / 3
    # Without a training query that has negatives: the longest first.
    assert query_baselines(rankings(), judged)["length"]["mrr"] == 1 / 3
    chance = query_baselines(short, judged)["majority"]["mrr"]
    assert np.isclose(chance, np.mean([1, 1 / 2, 1 / 3]))

"""Baselines read labels and lengths alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from support.synthetic_stores import CLASSES, SCORE

from glot_jax.objectives.baselines import (
    length_baseline,
    majority,
    query_baselines,
    row_baselines,
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """As much of a feed as the baselines of rows read."""

    planned_lengths: np.ndarray
    planned_labels: np.ndarray


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
    rows = Rows(lengths, labels)
    assert row_baselines(rows, rows, CLASSES)["length"]["accuracy"] == 1
    # Of one class alone there is nothing to learn.
    ones = np.ones(6, int)
    assert length_baseline(lengths, ones, lengths, labels, CLASSES)["accuracy"] == 0.5


@dataclasses.dataclass(frozen=True)
class Rankings:
    """As much of a feed of queries as their baselines read."""

    pairs: list[tuple[np.ndarray, np.ndarray]]

    def length_rankings(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return iter(self.pairs)


def rankings(*queries: tuple[list[int], list[bool]]) -> Rankings:
    return Rankings([(np.array(lengths), np.array(relevant)) for lengths, relevant in queries])


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

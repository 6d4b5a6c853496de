"""Ranking metrics against scikit-learn.

Ties stand against the relevant one, chance against every order.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from glot_jax.objectives.metrics import METRICS
from glot_jax.objectives.query_metrics import RANKING, chance, query_loss, query_scores


@pytest.mark.parametrize("candidates", [2, 5, 11, 40])
def test_metrics_are_scikit_learn_s(candidates):
    rng = np.random.default_rng(candidates)
    for _ in range(25):
        relevant = rng.random(candidates) < rng.choice([0.1, 0.5])
        relevant[rng.integers(candidates)] = True
        scores = rng.normal(size=candidates)
        order = np.argsort(-scores)
        expected = [
            ndcg_score([relevant.astype(float)], [scores], k=10),
            average_precision_score(relevant, scores),
            1 / (1 + np.flatnonzero(relevant[order])[0]),
        ]
        np.testing.assert_allclose(query_scores(scores, relevant), expected, rtol=1e-12)


def test_an_equal_score_counts_against_the_relevant_text():
    first = np.array([True, False, False, False])
    for relevant in (first, first[::-1]):
        np.testing.assert_allclose(
            query_scores(np.zeros(4), relevant), [1 / np.log2(5), 0.25, 0.25]
        )
    np.testing.assert_allclose(
        query_scores(np.array([1.0, 1, 0]), np.array([True, True, False])), 1
    )


@pytest.mark.parametrize(("candidates", "relevant"), [(1, 1), (4, 1), (6, 3), (7, 6), (5, 5)])
def test_chance_is_the_mean_over_all_orders(candidates, relevant):
    flags = np.arange(candidates) < relevant
    every = [
        query_scores(-np.arange(candidates), flags[list(order)])
        for order in itertools.permutations(range(candidates))
    ]
    np.testing.assert_allclose(chance(candidates, relevant), np.mean(every, axis=0), rtol=1e-10)


def test_chance_among_more_than_ten():
    rng, flags = np.random.default_rng(0), np.arange(30) < 4
    every = [query_scores(rng.random(30), flags) for _ in range(6000)]
    np.testing.assert_allclose(
        chance(30, 4), np.mean(every, axis=0), atol=4 * np.std(every, axis=0).max() / np.sqrt(6000)
    )


def test_the_loss_of_a_query():
    logits, relevant = (
        np.array([2.0, 1.0, 0.5, -1.0], np.float32),
        np.array([True, False, True, False]),
    )
    against = np.exp(1.0) + np.exp(-1.0)
    expected = np.mean([-np.log(np.exp(s) / (np.exp(s) + against)) for s in (2.0, 0.5)])
    assert query_loss(logits, relevant) == pytest.approx(expected)
    assert query_loss(logits * 1e4, relevant) >= 0  # no overflow
    assert query_loss(logits[:1], relevant[:1]) == 0


def test_the_table_s_metrics_average_over_queries():
    scores = np.random.default_rng(1).random((9, 3))
    assert [METRICS[name](scores, np.ones(9)) for name in RANKING] == pytest.approx(
        scores.mean(axis=0).tolist()
    )

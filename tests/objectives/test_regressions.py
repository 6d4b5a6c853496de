"""Regressions on a few features are those of scikit-learn, which takes seconds to load."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glot_jax.objectives.regressions import Linear, Logistic


def rows(count: int, columns: int, seed: int) -> np.ndarray:
    """Log lengths, the last column the same in all rows where there are two or more."""
    rng = np.random.default_rng(seed)
    features = np.log1p(rng.integers(1, 60, (count, columns)).astype(np.float64))
    if columns > 1:
        features[:, -1] = 0.1
    return features


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes_are_those_of_scikit_learn(columns, classes):
    for seed, count in enumerate((12, 200, 3000)):
        features = rows(count, columns, seed)
        noise = np.random.default_rng(seed).normal(0, 0.7, count)
        edges = np.quantile(features[:, 0] + noise, np.linspace(0, 1, classes + 1)[1:-1])
        # Numbers with gaps: a class may be missing from training.
        labels = 3 * np.searchsorted(edges, features[:, 0] + noise)
        theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        theirs.fit(features, labels)
        ours = Logistic.fit(features, labels)
        judged = rows(500, columns, seed + 10)
        logits = theirs.decision_function(judged)
        found = ours.logits(judged)
        # Several are compared by their differences: the same number may be added to all.
        if classes == 2:
            np.testing.assert_allclose(found[:, 0], logits, atol=1e-5)
        else:
            centred = logits - logits.mean(axis=1, keepdims=True)
            own = found - found.mean(axis=1, keepdims=True)
            np.testing.assert_allclose(own, centred, atol=1e-4)
        np.testing.assert_array_equal(ours.predict(judged), theirs.predict(judged))


@pytest.mark.parametrize("columns", [1, 3])
def test_scores_are_those_of_scikit_learn(columns):
    features = rows(300, columns, 0)
    scores = features[:, 0] * 2 + np.random.default_rng(1).normal(0, 1, 300)
    theirs = make_pipeline(StandardScaler(), LinearRegression()).fit(features, scores)
    judged = rows(50, columns, 2)
    ours = Linear.fit(features, scores).predict(judged)
    np.testing.assert_allclose(ours, theirs.predict(judged), rtol=1e-9)


def test_a_feature_that_all_rows_share_changes_nothing():
    features = rows(100, 1, 0)
    labels = (features[:, 0] > np.median(features)).astype(int)
    constant = np.full((100, 1), 0.1 + 0.2)
    alone = Logistic.fit(features, labels)
    both = Logistic.fit(np.concatenate([features, constant], axis=1), labels)
    expected = alone.logits(features)
    found = both.logits(np.concatenate([features, constant], axis=1))
    np.testing.assert_allclose(found, expected, atol=1e-12)

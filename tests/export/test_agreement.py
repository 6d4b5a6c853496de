"""When two arrays of vectors agree, and states that can tell."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import glot, model_of

from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError
from glot_jax.export.agreement import CLOSE, margin, random_texts, require_agreement


def test_the_difference_is_relative_to_the_largest_entry():
    expected = np.array([[100.0, 1.0]])
    assert require_agreement(expected + 0.5, expected, 0.01) == pytest.approx(0.005)
    with pytest.raises(UsageError, match=r"to 0\.001 of the largest entry; got 0\.005"):
        require_agreement(expected + 0.5, expected, 0.001)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees(broken):
    expected = np.ones((2, 3))
    exported = expected.copy()
    exported[1, 1] = broken
    with pytest.raises(UsageError, match="must compute the vectors of its run"):
        require_agreement(exported, expected, 1e9)


@pytest.mark.parametrize(
    "graph", [GraphConfig(tau=0.5), GraphConfig(graph="knn", k=2), GraphConfig(graph="window")]
)
def test_no_link_of_random_texts_hangs_on_rounding(graph):
    model = model_of(glot(), graph, layers=(0, 2))
    hidden, mask = random_texts(model, 5, 7)
    assert hidden.shape == (5, 7, 2, 12)
    assert mask.sum(1)[:3].tolist() == [7, 1, 0]
    for states, tokens in zip(hidden, mask.astype(bool), strict=True):
        assert margin(model, states[tokens]) > CLOSE


def test_the_margin_is_that_of_the_closest_pair():
    model = model_of(glot(), GraphConfig(tau=0.5))
    states = np.zeros((3, 12))
    states[0, 0] = states[1, 1] = states[2, 2] = 1
    states[2, 0] = 1  # a cosine of sqrt(1/2) with the first token, 0 with the second
    assert margin(model, states) == pytest.approx(np.sqrt(0.5) - 0.5)

"""token_graph refuses what is no batch of states."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph

STATES = np.ones((2, 3, 4), np.float32)
MASK = np.ones((2, 3), bool)


@pytest.mark.parametrize(
    ("hidden", "mask"),
    [(STATES[0], MASK), (STATES, MASK[:1]), (STATES, MASK.astype(np.int32))],
)
def test_shapes_and_masks_that_do_not_fit_are_refused(hidden, mask):
    with pytest.raises(UsageError, match=r"must be given hidden \[batch, length, dim\]"):
        token_graph(hidden, mask)


def test_a_k_above_the_length_is_refused():
    with pytest.raises(UsageError, match="--k must be at most the longest padded text, 3 tokens"):
        token_graph(STATES, MASK, graph="knn", k=4)


def test_float16_states_have_float32_features():
    assert token_graph(STATES.astype(np.float16), MASK).nodes.dtype == np.float32

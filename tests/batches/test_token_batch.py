"""Ragged states, padded."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.errors import UsageError

TOKENS = np.arange(1, 13, dtype=np.float16).reshape(6, 2)
LENGTHS = [1, 0, 3, 2]


def texts() -> list[np.ndarray]:
    return np.split(TOKENS, np.cumsum(LENGTHS)[:-1])


@pytest.mark.parametrize("states", [TOKENS, texts()], ids=["tokens", "texts"])
def test_every_token_is_where_its_text_is_and_padding_is_zero(states):
    batch = TokenBatch.from_ragged(states, LENGTHS)
    assert batch.hidden.shape == (4, 3, 2)
    assert batch.hidden.dtype == np.float16
    assert batch.mask.sum(axis=1).tolist() == LENGTHS
    for row, text in enumerate(texts()):
        np.testing.assert_array_equal(batch.hidden[row][batch.mask[row]], text)
    assert not batch.hidden[~batch.mask].any()
    assert batch.row_mask.all()
    assert batch.labels.tolist() == [0] * 4


def test_length_and_rows_only_add_padding():
    batch = TokenBatch.from_ragged(TOKENS, LENGTHS, length=5, rows=6)
    small = TokenBatch.from_ragged(TOKENS, LENGTHS)
    assert batch.hidden.shape == (6, 5, 2)
    np.testing.assert_array_equal(batch.hidden[:4, :3], small.hidden)
    assert not batch.mask[4:].any()
    assert not batch.mask[:, 3:].any()
    assert batch.row_mask.tolist() == [True] * 4 + [False] * 2


def test_layers_are_an_axis_of_the_tokens():
    states = np.arange(24.0).reshape(4, 3, 2)
    batch = TokenBatch.from_ragged(states, [3, 1])
    np.testing.assert_array_equal(batch.hidden[0], states[:3])
    np.testing.assert_array_equal(batch.hidden[1, 0], states[3])


@pytest.mark.parametrize(
    ("states", "lengths", "room", "message"),
    [
        (TOKENS, [6, 1], {}, "must add up to the tokens there are; got 7 for 6 tokens"),
        (texts(), [1, 0, 3, 3], {}, "states and lengths must be of the same texts"),
        ([], [], {}, "at least one"),
        (TOKENS, [6], {"length": 5}, "must have room for its texts; got 1 texts of up to 6"),
        (TOKENS, [3, 3], {"rows": 1}, "must have room for its texts; got 2 texts"),
    ],
)
def test_what_does_not_fit_is_refused(states, lengths, room, message):
    with pytest.raises(UsageError, match=message):
        TokenBatch.from_ragged(states, lengths, **room)

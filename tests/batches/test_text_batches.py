"""Batches of texts: every text with a token once, neighbours of similar length."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from glot_jax.batches import text_batches
from glot_jax.batches.text_batches import PASS_TOKENS, by_length, forward_passes, token_windows
from glot_jax.errors import UsageError


@dataclasses.dataclass
class Ids:
    ids: list[list[int]]


class Letters:
    """A tokenizer whose tokens are letters."""

    def tokenize(self, texts):
        return Ids([[ord(letter) for letter in text] for text in texts])


def test_every_text_with_a_token_comes_once(monkeypatch):
    # Several windows, the last of them short.
    monkeypatch.setattr(text_batches, "_WINDOW", 16)
    rng = np.random.default_rng(0)
    texts = ["x" * int(rng.integers(0, 9)) for _ in range(53)]
    seen = []
    for rows, ids in itertools.chain.from_iterable(token_windows(Letters(), texts, 4)):
        assert len(rows) == len(ids) <= 4
        assert [len(text) for text in ids] == [len(texts[row]) for row in rows]
        seen += rows.tolist()
    assert sorted(seen) == [row for row, text in enumerate(texts) if text]


def test_texts_of_a_batch_are_of_similar_length():
    texts = ["x" * (count % 10 + 1) for count in range(40)]
    for _, ids in itertools.chain.from_iterable(token_windows(Letters(), texts, 4)):
        lengths = [len(text) for text in ids]
        assert max(lengths) == min(lengths)


def test_equal_lengths_keep_their_order():
    np.testing.assert_array_equal(by_length(np.array([2, 0, 1, 2, 1])), [2, 4, 0, 3])


def test_what_is_no_string_is_named_by_its_row(monkeypatch):
    monkeypatch.setattr(text_batches, "_WINDOW", 2)
    texts: list[Any] = ["a", "b", "c", None]
    with pytest.raises(UsageError, match="NoneType in row 3"):
        list(token_windows(Letters(), texts, 2))


def test_a_pass_is_whole_batches_that_fit_its_tokens():
    rng = np.random.default_rng(0)
    # The last ones are longer than a pass: each batch of them goes alone.
    texts = ["x" * int(length) for length in rng.integers(1, 90, 300)] + ["x" * 2000] * 5
    (batches,) = token_windows(Letters(), texts, 4)
    passes = list(forward_passes(batches))
    joined = list(itertools.chain.from_iterable(passes))
    assert [rows.tolist() for rows, _ in joined] == [rows.tolist() for rows, _ in batches]
    sizes = []
    for shared in passes:
        ids = [text for _, of_batch in shared for text in of_batch]
        sizes.append(len(ids) * max(map(len, ids)))
        assert sizes[-1] <= PASS_TOKENS or len(shared) == 1
    # No pass had room for the batch that comes after it.
    for size, (shared, after) in zip(sizes, itertools.pairwise(passes), strict=False):
        count = sum(len(ids) for _, ids in shared) + len(after[0][1])
        assert size > PASS_TOKENS or count * len(after[0][1][-1]) > PASS_TOKENS
    assert list(forward_passes([])) == []

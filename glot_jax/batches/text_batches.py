"""Texts as token ids, in batches of similar length: little padding, whoever runs or pools them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from glot_jax.errors import UsageError

_WINDOW = 8192
"""Texts tokenised and sorted at a time: memory does not grow with the number of texts."""


class HasIds(Protocol):
    """What a tokenizer gives for some texts."""

    @property
    def ids(self) -> list[list[int]]:
        """Token ids of each text."""
        ...


class Tokenizes(Protocol):
    """What has a tokenizer: a `Backbone`, which is not imported for it."""

    def tokenize(self, texts: Sequence[str]) -> HasIds:
        """Token ids of some texts."""
        ...


def token_batches(
    backbone: Tokenizes, texts: Sequence[str], batch_size: int
) -> Iterator[tuple[np.ndarray, list[list[int]]]]:
    """Yield (rows, token ids) of texts of similar length.

    Texts without a token are left out. Some thousands are held as tokens at a time.

    Args:
        backbone: whose tokenizer is used.
        texts: strings.
        batch_size: texts of a batch.

    Raises:
        UsageError: something that is not a string.
    """
    for start in range(0, len(texts), _WINDOW):
        window = list(texts[start : start + _WINDOW])
        _require_strings(window, start)
        ids = backbone.tokenize(window).ids
        order = by_length(lengths_of(ids))
        # By length within a window: little padding, and few shapes to compile.
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            yield start + rows, [ids[row] for row in rows]


def _require_strings(texts: Sequence[object], start: int) -> None:
    """Require strings; `start` is the row of the first."""
    for row, text in enumerate(texts, start):
        if not isinstance(text, str):
            raise UsageError(
                rule="a text must be a string",
                got=f"{type(text).__name__} in row {row}",
                fix="Convert it.",
            )


def lengths_of(ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Number of tokens of each text."""
    counts = list(map(len, ids))
    # The dtype is named, because an empty list would be floats.
    return np.array(counts, np.int64)


def by_length(lengths: np.ndarray) -> np.ndarray:
    """Indices of the texts that have tokens, the shortest first."""
    # Stable: equal texts come in the order in which they were given, whatever NumPy does.
    order = np.argsort(lengths, kind="stable")
    return order[lengths[order] > 0]

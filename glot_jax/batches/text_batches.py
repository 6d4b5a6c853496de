"""Texts as token ids, in batches of similar length: little padding, whoever runs or pools them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from glot_jax.errors import UsageError

_WINDOW = 8192
"""Texts tokenised and sorted at a time: memory does not grow with the number of texts."""


PASS_TOKENS = 1024
"""Tokens of a forward pass that several batches of short texts share.

32 short sentences are some 400 tokens: products of so few rows keep two cores waiting for each
other. Of 2,048 the states leave a core's cache.
"""


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


TokenBatches = list[tuple[np.ndarray, list[list[int]]]]
"""(rows, token ids) of some batches."""


def token_windows(
    backbone: Tokenizes, texts: Sequence[str], batch_size: int
) -> Iterator[TokenBatches]:
    """Yield batches of texts of similar length, the shortest first, of some thousands of texts.

    No more are held as tokens at a time. Texts without a token are left out.

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
        batches = []
        # By length within a window: little padding, and few shapes to compile.
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            batches.append((start + rows, [ids[row] for row in rows]))
        yield batches


def forward_passes(batches: TokenBatches) -> Iterator[TokenBatches]:
    """Yield the batches that share a forward pass: whole ones, at most `PASS_TOKENS` if several.

    Args:
        batches: the shortest texts first.
    """
    shared: TokenBatches = []
    texts = 0
    for rows, ids in batches:
        # What is padded counts: the last text is the longest.
        if shared and (texts + len(ids)) * len(ids[-1]) > PASS_TOKENS:
            yield shared
            shared = []
            texts = 0
        shared.append((rows, ids))
        texts += len(ids)
    if shared:
        yield shared


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

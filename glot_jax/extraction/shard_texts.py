"""The plan of a split: which shard holds which texts.

Shards are a pure function of the texts, the tokenizer and `shard_tokens`. How the texts are read,
which shards exist already and how many workers there are make no difference.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from glot_jax.backbones.distant import KnownBackbone
from glot_jax.backbones.forward_pass import length_batches
from glot_jax.extraction.row_table import RowTable
from glot_jax.texts import Example

CHUNK_ROWS = 2048
CHUNK_CHARACTERS = 4_000_000
"""Texts are tokenised in chunks of at most this much, so that memory does not grow with the split.
"""


@dataclasses.dataclass(frozen=True)
class ShardTexts:
    """The tokenised texts of one shard, in the order of the rows."""

    lengths: np.ndarray
    """int32 [texts]: tokens of each text."""
    token_ids: np.ndarray
    """int32 [tokens]: the texts one after the other."""
    rows: np.ndarray
    """int64 [texts]: the row that each text belongs to."""
    truncated: int
    """Texts that were cut to `max_length`."""
    empty: int
    """Texts without a token of their own."""

    @property
    def offsets(self) -> np.ndarray:
        """int64 [texts + 1]: text t has the tokens offsets[t] .. offsets[t + 1]."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        return np.concatenate([[0], ends])

    def batches(self, tokens_per_batch: int) -> Iterator[np.ndarray]:
        """Yield the texts of each forward pass, as `length_batches` does.

        Batches never cross a shard, so its bytes do not depend on what was done before.
        """
        return length_batches(self.lengths, tokens_per_batch)


class _OpenShard:
    """The shard that is being filled."""

    def __init__(self) -> None:
        self._ids: list[list[int]] = []
        self._rows: list[int] = []
        self._truncated = 0
        self._empty = 0
        self.tokens = 0

    def __len__(self) -> int:
        """How many texts it holds."""
        return len(self._ids)

    def add(
        self,
        row: int,
        ids: list[int],
        *,
        truncated: bool,
        empty: bool,
    ) -> None:
        self._ids.append(ids)
        self._rows.append(row)
        self._truncated += int(truncated)
        self._empty += int(empty)
        self.tokens += len(ids)

    def close(self) -> ShardTexts:
        # Sizes are known, so no list of all tokens is made in between.
        lengths = np.fromiter(map(len, self._ids), np.int32, len(self._ids))
        tokens = itertools.chain.from_iterable(self._ids)
        token_ids = np.fromiter(tokens, np.int32, self.tokens)
        rows = np.array(self._rows, np.int64)
        return ShardTexts(lengths, token_ids, rows, self._truncated, self._empty)


def cut_shards(
    examples: Iterable[Example],
    backbone: KnownBackbone,
    shard_tokens: int,
    table: RowTable,
) -> Iterator[ShardTexts]:
    """Tokenise examples and yield a shard whenever it holds `shard_tokens` tokens or more.

    Args:
        examples: rows in order.
        backbone: tokenises their texts.
        shard_tokens: size at which a shard is closed.
        table: receives every row; it decides which texts are stored.
    """
    shard = _OpenShard()
    for chunk in _chunks(examples):
        # Many texts at once: the tokenizer runs them on all cores.
        tokenised = backbone.tokenize([text for example in chunk for text in example.texts])
        start = 0
        for example in chunk:
            stop = start + len(example.texts)
            # Of equal texts only the first is stored, with `--deduplicate`.
            ids = tokenised.ids[start:stop]
            for slot in table.add(ids, example.label):
                text = start + slot
                shard.add(
                    example.row,
                    tokenised.ids[text],
                    truncated=bool(tokenised.truncated[text]),
                    empty=bool(tokenised.empty[text]),
                )
            start = stop
            # Asked between rows only: a row is never divided, so its batch reads one shard.
            if shard.tokens >= shard_tokens:
                yield shard.close()
                shard = _OpenShard()
    if len(shard):
        yield shard.close()


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.texts))
        # Rows alone would not do: a text may have megabytes.
        if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk = []
            characters = 0
    if chunk:
        yield chunk

"""Examples cut into shards: a pure function of the texts, the tokenizer and `shard_tokens`, however they are read."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from glot_jax.extraction.backbone import Backbone
from glot_jax.texts import Example

CHUNK_ROWS = 2048
CHUNK_CHARACTERS = 4_000_000
"""Texts are tokenised in chunks of at most this much, so that memory does not grow with the split."""


@dataclasses.dataclass(frozen=True)
class ShardTexts:
    """The tokenised texts of one shard, in the order of the rows."""

    lengths: np.ndarray
    """int32 [texts]."""
    token_ids: np.ndarray
    """int32 [tokens]."""
    rows: np.ndarray
    """int64 [texts]: the row that each text belongs to."""
    truncated: int
    empty: int

    @property
    def offsets(self) -> np.ndarray:
        """int64 [texts + 1]: text t has the tokens offsets[t] .. offsets[t + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def batches(self, tokens_per_batch: int) -> Iterator[np.ndarray]:
        """Texts of one forward pass each, int64: similar lengths, longest first, at most `tokens_per_batch` padded tokens.

        A text longer than the budget goes alone; texts without a token need no pass.
        """
        # Longest first: a pass that does not fit the memory fails at once and not after an hour.
        order = np.argsort(-self.lengths.astype(np.int64), kind="stable")
        order = order[: np.count_nonzero(self.lengths)]
        start = 0
        while start < len(order):
            stop = start + max(1, tokens_per_batch // int(self.lengths[order[start]]))
            yield order[start:stop]
            start = stop


@dataclasses.dataclass
class RowTable:
    """What a split keeps per row, filled while its shards are cut."""

    texts_per_row: list[int] = dataclasses.field(default_factory=list)
    labels: list[int | float | None] = dataclasses.field(default_factory=list)

    def arrays(self, roles: int, label_kind: str) -> dict[str, np.ndarray]:
        """`row_offsets`, `row_texts`, `roles` and, for labelled tasks, `labels`, by file name."""
        counts = np.array(self.texts_per_row, np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        slots = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        arrays = {
            "row_offsets.npy": offsets, "row_texts.npy": np.arange(offsets[-1], dtype=np.int64),
            "roles.npy": np.minimum(slots, roles - 1).astype(np.int8),
        }
        if label_kind != "none":
            arrays["labels.npy"] = np.array(self.labels, np.int64 if label_kind == "classes" else np.float32)
        return arrays


def cut_shards(examples: Iterable[Example], backbone: Backbone, shard_tokens: int, table: RowTable) -> Iterator[ShardTexts]:
    """Tokenise examples and yield a shard whenever its rows' tokens reach `shard_tokens`; rows are never divided."""
    ids: list[list[int]] = []
    rows: list[int] = []
    tokens, truncated, empty = 0, 0, 0
    for chunk in _chunks(examples):
        tokenised = backbone.tokenize([text for example in chunk for text in example.texts])
        start = 0
        for example in chunk:
            stop = start + len(example.texts)
            ids += tokenised.ids[start:stop]
            rows += [example.row] * (stop - start)
            tokens += sum(map(len, tokenised.ids[start:stop]))
            truncated += int(tokenised.truncated[start:stop].sum())
            empty += int(tokenised.empty[start:stop].sum())
            table.texts_per_row.append(stop - start)
            table.labels.append(example.label)
            start = stop
            if tokens >= shard_tokens:
                yield _shard(ids, rows, truncated, empty)
                ids, rows = [], []
                tokens, truncated, empty = 0, 0, 0
    if ids:
        yield _shard(ids, rows, truncated, empty)


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += sum(map(len, example.texts))
        if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _shard(ids: list[list[int]], rows: list[int], truncated: int, empty: int) -> ShardTexts:
    lengths = np.fromiter(map(len, ids), np.int32, len(ids))
    flat = np.fromiter(itertools.chain.from_iterable(ids), np.int32, int(lengths.sum()))
    return ShardTexts(lengths, flat, np.array(rows, np.int64), truncated, empty)

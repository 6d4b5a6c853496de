"""Examples cut into shards: a pure function of the texts, the tokenizer and `shard_tokens`, however
they are read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from glot_jax.extraction.backbone import Backbone
from glot_jax.store.split_reader import SplitReader
from glot_jax.texts import Example, TaskSpec

CHUNK_ROWS = 2048
CHUNK_CHARACTERS = 4_000_000
"""Texts are tokenised in chunks of at most this much, so that memory does not grow with the split.
"""


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
        """Texts of one forward pass each, int64: similar lengths, longest first, at most
        `tokens_per_batch` padded tokens.

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


class RowTable:
    """What a split keeps per row, filled while its shards are cut.

    Args:
        spec: the task, which says how many roles there are and what labels are.
        deduplicate: texts of equal tokens share one number.
        digest: compute `sha256` over the rows that are added.
        keys: keep the `row_key` of every row until `take_keys`.

    Attributes: `texts` (stored so far, earlier ones included), `duplicates` (texts that were there
        already), `rows` (added here).
    """

    def __init__(
        self, spec: TaskSpec, *, deduplicate: bool = False, digest: bool = False, keys: bool = False
    ):
        self._spec = spec
        self._counts, self._numbers = array("q"), array("q")
        self._labels = array("q" if spec.label_kind == "classes" else "d")
        self._seen: dict[bytes, int] | None = {} if deduplicate else None
        self._digest = hashlib.sha256() if digest else None
        self._keys: list[bytes] | None = [] if keys else None
        self._before: dict[str, np.ndarray] = {}
        self.texts = self.duplicates = self.rows = 0

    def continue_from(self, reader: SplitReader) -> None:
        """Rows to come follow those of this split."""
        self._before = {
            "row_offsets.npy": reader.row_offsets,
            "row_texts.npy": reader.row_texts,
            "roles.npy": reader.roles,
        }
        if reader.labels is not None:
            self._before["labels.npy"] = reader.labels
        self.texts = len(reader.text_lengths)
        if self._seen is not None:
            for text in range(self.texts):
                self._seen.setdefault(_key(reader.token_ids(text)), text)

    @property
    def sha256(self) -> str:
        """Over token ids and labels of the rows added."""
        return "" if self._digest is None else self._digest.hexdigest()

    def add(self, ids: Sequence[list[int]], label: int | float | None) -> list[int]:
        """One more row with these texts; which of them are to be stored, by their place in
        the row.
        """
        stored = []
        self.rows += 1
        self._counts.append(len(ids))
        if self._spec.label_kind != "none":
            self._labels.append(label)  # type: ignore[arg-type]
        if self._digest is not None or self._keys is not None:
            key = row_key(ids, label)
            if self._digest is not None:
                self._digest.update(key)
            if self._keys is not None:
                self._keys.append(key)
        for place, text in enumerate(ids):
            known = None
            if self._seen is not None:
                known = self._seen.setdefault(_key(np.array(text, np.int32)), self.texts)
            if known is not None and known < self.texts:
                self.duplicates += 1
                self._numbers.append(known)
            else:
                stored.append(place)
                self._numbers.append(self.texts)
                self.texts += 1
        return stored

    def take_keys(self) -> list[bytes]:
        """`row_key` of the rows added since the last call."""
        taken, self._keys = self._keys or [], []
        return taken

    def arrays(self) -> dict[str, np.ndarray]:
        """`row_offsets`, `row_texts`, `roles` and, for labelled tasks, `labels`, by file name;
        earlier rows come first.
        """
        counts = np.array(self._counts, np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        slots = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        arrays = {
            "row_offsets.npy": offsets,
            "row_texts.npy": np.array(self._numbers, np.int64),
            "roles.npy": np.minimum(slots, len(self._spec.roles) - 1).astype(np.int8),
        }
        if self._spec.label_kind != "none":
            arrays["labels.npy"] = np.array(
                self._labels, np.int64 if self._spec.label_kind == "classes" else np.float32
            )
        if self._before:
            arrays["row_offsets.npy"] = offsets[1:] + self._before["row_offsets.npy"][-1]
            arrays = {
                name: np.concatenate([self._before[name], added]) for name, added in arrays.items()
            }
        return arrays


def row_key(ids: Sequence[Sequence[int] | np.ndarray], label: int | float | None) -> bytes:
    """What tells rows apart: label and token ids.

    Scores are stored as float32, and compared as such.
    """
    head = repr(
        (len(ids), float(np.float32(label)) if isinstance(label, float) else label)
    ).encode()
    return head + b"".join(_key(np.asarray(text, np.int32)) for text in ids)


def _key(ids: np.ndarray) -> bytes:
    """A text's tokens as 16 bytes: two texts that share them by chance are not to be expected."""
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def cut_shards(
    examples: Iterable[Example], backbone: Backbone, shard_tokens: int, table: RowTable
) -> Iterator[ShardTexts]:
    """Tokenise examples and yield a shard whenever its stored tokens reach `shard_tokens`; rows are
    never divided.
    """
    ids: list[list[int]] = []
    rows: list[int] = []
    tokens, truncated, empty = 0, 0, 0
    for chunk in _chunks(examples):
        tokenised = backbone.tokenize([text for example in chunk for text in example.texts])
        start = 0
        for example in chunk:
            stop = start + len(example.texts)
            for place in table.add(tokenised.ids[start:stop], example.label):
                text = start + place
                ids.append(tokenised.ids[text])
                rows.append(example.row)
                tokens += len(tokenised.ids[text])
                truncated += int(tokenised.truncated[text])
                empty += int(tokenised.empty[text])
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

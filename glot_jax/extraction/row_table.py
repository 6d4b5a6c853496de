"""The rows of a split: which texts each of them has, in which roles, and its label."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

import numpy as np

from glot_jax.store.split_reader import SplitReader
from glot_jax.texts import TaskSpec
from glot_jax.texts.tasks import Label


class RowTable:
    """The row arrays of a split, filled row by row while its shards are cut.

    A row names its texts by number. With `deduplicate` texts of equal tokens share a number and
    only the first of them is stored.

    Attributes:
        rows: rows added so far; those of `continue_from` do not count.
        texts: texts stored so far, those of `continue_from` included.
        duplicates: texts of the added rows that were stored before.
    """

    def __init__(
        self,
        spec: TaskSpec,
        *,
        deduplicate: bool = False,
        digest: bool = False,
        keys: bool = False,
    ):
        """Start an empty table.

        Args:
            spec: the task, which says how many roles there are and what labels are.
            deduplicate: give texts of equal tokens one number.
            digest: compute `sha256` over the rows that are added.
            keys: keep the `row_key` of every row until `take_keys` is called.
        """
        self._spec = spec
        # Arrays of machine numbers, not lists: a split of millions of rows stays small in memory.
        self._texts_per_row = array("q")
        self._numbers = array("q")
        self._labels = array("d" if spec.label_kind in ("regression", "ranking") else "q")
        # Of several classes a row: how many each has.
        self._labels_per_row = array("q")
        # 16 bytes of a hash for each text, not its tokens: the table must fit the memory.
        self._seen: dict[bytes, int] | None = {} if deduplicate else None
        self._digest = hashlib.sha256() if digest else None
        self._keep_keys = keys
        self._keys: list[bytes] = []
        # Arrays of the rows before these, where the split is grown.
        self._before: dict[str, np.ndarray] = {}
        self.rows = 0
        self.texts = 0
        self.duplicates = 0

    def continue_from(self, reader: SplitReader) -> None:
        """Let the rows to come follow those of a stored split."""
        self._before = {
            "row_offsets.npy": reader.row_offsets,
            "row_texts.npy": reader.row_texts,
            "roles.npy": reader.roles,
        }
        if reader.labels is not None:
            self._before["labels.npy"] = reader.labels
        self.texts = len(reader.text_lengths)
        if self._seen is not None:
            # The first of equal texts wins, as in the table that stored them.
            for text in range(self.texts):
                self._seen.setdefault(_text_key(reader.token_ids(text)), text)

    @property
    def sha256(self) -> str:
        """Hash over token ids and labels of the added rows; empty without `digest`."""
        if self._digest is None:
            return ""
        return self._digest.hexdigest()

    def add(
        self,
        ids: Sequence[list[int]],
        label: Label | None,
    ) -> list[int]:
        """Add one row.

        Args:
            ids: the token ids of each of its texts.
            label: the row's label; None in a task without labels.

        Returns:
            The texts that are to be stored, by their position in the row.
        """
        self.rows += 1
        self._texts_per_row.append(len(ids))
        if self._spec.label_kind != "none":
            if label is None:
                raise ValueError(f"row {self.rows - 1} of a labelled task has no label")
            self._add_label(label)
        if self._digest is not None or self._keep_keys:
            self._note_key(row_key(ids, label))
        stored = []
        # Equal texts within one row share a number as well.
        for slot, text in enumerate(ids):
            number = self._number_of(text)
            self._numbers.append(number)
            if number < self.texts:
                self.duplicates += 1
            else:
                stored.append(slot)
                self.texts += 1
        return stored

    def _add_label(self, label: Label) -> None:
        if isinstance(label, tuple):
            self._labels.extend(label)
            self._labels_per_row.append(len(label))
        else:
            self._labels.append(label)

    def _note_key(self, key: bytes) -> None:
        if self._digest is not None:
            self._digest.update(key)
        if self._keep_keys:
            self._keys.append(key)

    def _number_of(self, text: list[int]) -> int:
        """The number of an equal text that is stored, else the next free one."""
        if self._seen is None:
            return self.texts
        key = _text_key(np.array(text, np.int32))
        return self._seen.setdefault(key, self.texts)

    def take_keys(self) -> list[bytes]:
        """Return the `row_key` of every row added since the last call."""
        taken = self._keys
        self._keys = []
        return taken

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the row arrays by file name, earlier rows first.

        | file | dtype, shape | content |
        | --- | --- | --- |
        | `row_offsets.npy` | int64 [rows + 1] | row r has the slots offsets[r] .. offsets[r + 1] |
        | `row_texts.npy` | int64 [slots] | the number of the text in each slot |
        | `roles.npy` | int8 [slots] | the role of each slot's text |
        | `labels.npy` | int64 or float32 [rows] | only in tasks with labels |
        | | uint8 [rows, classes] | where a row may have several: 1 for each that it has |
        """
        counts = np.array(self._texts_per_row, np.int64)
        ends = np.cumsum(counts)
        # One more than rows: row r has the slots offsets[r]:offsets[r + 1].
        offsets = np.concatenate([[0], ends])
        offsets = offsets.astype(np.int64)
        # Each slot's position in its row: 0 1 0 1 for two pairs.
        row_starts = np.repeat(offsets[:-1], counts)
        slots = np.arange(offsets[-1]) - row_starts
        # Texts beyond the last role repeat it: a query has any number of negatives.
        roles = np.minimum(slots, len(self._spec.roles) - 1)
        added = {
            "row_offsets.npy": offsets,
            "row_texts.npy": np.array(self._numbers, np.int64),
            "roles.npy": roles.astype(np.int8),
        }
        if self._spec.label_kind == "classes":
            added["labels.npy"] = np.array(self._labels, np.int64)
        elif self._spec.label_kind == "multilabel":
            added["labels.npy"] = self._indicator()
        elif self._spec.label_kind != "none":
            added["labels.npy"] = np.array(self._labels, np.float32)
        if not self._before:
            return added
        # The first offset of what follows is the last of what is there: it is written once.
        added["row_offsets.npy"] = offsets[1:] + self._before["row_offsets.npy"][-1]
        joint = {}
        for name, later in added.items():
            joint[name] = np.concatenate([self._before[name], later])
        return joint

    def _indicator(self) -> np.ndarray:
        """uint8 [rows, classes]: 1 for every class of a row."""
        # Made when all rows are there: until then a row takes a number for each class it has.
        counts = np.array(self._labels_per_row, np.int64)
        indicator = np.zeros((len(counts), len(self._spec.classes)), np.uint8)
        rows = np.repeat(np.arange(len(counts)), counts)
        indicator[rows, np.array(self._labels, np.int64)] = 1
        return indicator


def row_key(ids: Sequence[Sequence[int] | np.ndarray], label: Label | None) -> bytes:
    """Return bytes that are equal for rows of equal token ids and labels, and differ otherwise."""
    # A store compares its own rows with those of a file, whose scores are float64.
    if isinstance(label, float):
        # Scores are stored as float32: those that cannot be told apart in the store are equal.
        label = float(np.float32(label))
    key = repr((len(ids), label)).encode()
    for text in ids:
        # Of a fixed width each, so that no two rows run together.
        key += _text_key(np.asarray(text, np.int32))
    return key


def _text_key(ids: np.ndarray) -> bytes:
    """A text's tokens as 16 bytes; at this width collisions are negligible."""
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()

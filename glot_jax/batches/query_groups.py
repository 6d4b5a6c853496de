"""Queries with their texts, by number of the stored text: what the rows of a ranking are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.store.split_reader import SplitReader


def identities(reader: SplitReader, texts: np.ndarray) -> np.ndarray:
    """A number for each text that equal texts share.

    A store made with --deduplicate has equal texts once; others have them as often as they occur.

    Args:
        reader: the split.
        texts: stored texts to tell apart.

    Returns:
        [stored texts] int32: the first of `texts` that has the same tokens; -1 for those that are
        not among `texts`.
    """
    numbers = np.full(len(reader.text_lengths), -1, np.int32)
    first_with: dict[bytes, int] = {}
    for text in np.unique(texts).tolist():
        tokens = np.ascontiguousarray(reader.token_ids(text)).tobytes()
        # 16 bytes instead of the text: collisions are negligible, and millions of texts fit.
        digest = hashlib.blake2b(tokens, digest_size=16).digest()
        numbers[text] = first_with.setdefault(digest, text)
    return numbers


def query_of_rows(reader: SplitReader) -> np.ndarray:
    """[rows] int32, equal for rows whose query has the same tokens."""
    # The query is the first text of its row.
    queries = reader.row_texts[reader.row_offsets[:-1]]
    return identities(reader, queries)[queries]


class Groups:
    """Rows of a split as queries with their texts, by number of the stored text.

    A stored row is its query, then `positives[row]` relevant texts, then `negatives[row]` others.

    Args:
        reader: split whose labels count the relevant texts of its rows.
        rows: [n] int64, the rows that take part.

    Raises:
        UsageError: the store has no labels, or labels that do not fit its texts.
    """

    def __init__(self, reader: SplitReader, rows: np.ndarray):
        self.reader = reader
        self.rows = np.asarray(rows, np.int64)
        if reader.labels is None:
            raise UsageError(
                rule="rows of a ranking must say how many texts are relevant",
                got="a store without labels",
                fix="Extract it again.",
            )
        # Rows have different numbers of texts, so slots are found by offset and not by shape.
        self.first = reader.row_offsets[self.rows]
        # Stored as float32, like every label that is not a class.
        relevant = np.asarray(reader.labels)[self.rows]
        self.positives = relevant.astype(np.int64)
        texts = reader.row_offsets[self.rows + 1] - self.first
        self.negatives = texts - 1 - self.positives
        has_positive = (self.positives > 0).all()
        if not has_positive or (self.negatives < 0).any():
            raise UsageError(
                rule="a row of a ranking must have a query and a relevant text",
                got="a store whose labels and texts disagree",
                fix="Extract it again.",
            )

    @property
    def sizes(self) -> np.ndarray:
        """[n] int64: texts of each group, the query included."""
        return 1 + self.positives + self.negatives

    @property
    def texts(self) -> np.ndarray:
        """[slots] int64: the stored text of every slot of these rows, row by row."""
        sizes = self.sizes
        # Number of each slot within its row: a running number less that of the row's first slot.
        first = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(first, sizes)
        slots = np.repeat(self.first, sizes) + within
        return self.reader.row_texts[slots]

    def candidates(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """(stored texts [n], relevant [n] bool) that a query has of its own."""
        begin = int(self.first[group]) + 1
        count = int(self.positives[group] + self.negatives[group])
        relevant = np.arange(count) < self.positives[group]
        return self.reader.row_texts[begin : begin + count], relevant

    def length_rankings(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(tokens [n] int64, relevant [n] bool) of every query that has negatives of its own."""
        for group in np.flatnonzero(self.negatives):
            texts, relevant = self.candidates(int(group))
            yield self.reader.text_lengths[texts].astype(np.int64), relevant


class QueryPairs:
    """Training rows: every relevant text of every query once an epoch, with hard negatives.

    In epoch e, pair j of a query with P pairs takes the H hard negatives number (j + e P) H to
    (j + e P) H + H - 1, counted round: each comes up before any comes back. A query with fewer than
    H brings all of them.

    Args:
        groups: the queries.
        hard: number H of hard negatives that a pair brings along.
    """

    def __init__(self, groups: Groups, hard: int):
        self.groups = groups
        self.hard = hard
        numbers = np.arange(len(groups.rows))
        self.group = np.repeat(numbers, groups.positives)
        """[pairs]: index of the query among the groups."""
        # A running number less that of the query's first pair numbers the pairs of each query.
        first_pair = np.cumsum(groups.positives) - groups.positives
        self.number = np.arange(len(self.group)) - first_pair[self.group]
        """[pairs]: index j of the positive among its query's."""

    def __len__(self) -> int:
        return len(self.group)

    def texts(self, pairs: np.ndarray, epoch: int) -> np.ndarray:
        """[n, 2 + hard] int64: stored texts of query, positive and hard negatives; -1 for none."""
        row_texts = self.groups.reader.row_texts
        group = self.group[pairs]
        number = self.number[pairs]
        first = self.groups.first[group]
        positives = self.groups.positives[group]
        negatives = self.groups.negatives[group]
        # Slots of a stored row: the query, its positives, its negatives.
        first_positive = first + 1
        first_negative = first_positive + positives
        texts = np.full((len(pairs), 2 + self.hard), -1, np.int64)
        texts[:, 0] = row_texts[first]
        texts[:, 1] = row_texts[first_positive + number]
        for slot in range(self.hard):
            has_slot = negatives > slot
            turn = (number + epoch * positives) * self.hard + slot
            # The floor only keeps the division defined: a query without negatives has no slot.
            index = first_negative + turn % np.maximum(negatives, 1)
            texts[has_slot, 2 + slot] = row_texts[index[has_slot]]
        return texts

    def longest(self, pairs: np.ndarray, epoch: int) -> np.ndarray:
        """[n] int32, tokens of each pair's longest text."""
        texts = self.texts(pairs, epoch)
        lengths = np.where(texts >= 0, self.groups.reader.text_lengths[texts], 0)
        return lengths.max(axis=1)

"""Queries with their texts, by number of the stored text: what the rows of a ranking are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.store.split_reader import SplitReader

Candidates: TypeAlias = tuple[np.ndarray, np.ndarray]
"""([n] what stands for the candidates of a query: texts, lengths or scores; [n] bool: relevant)."""


def identities(
    reader: SplitReader,
    texts: np.ndarray,
) -> np.ndarray:
    """A number for each text that equal texts share.

    A store made with --deduplicate has equal texts once; others have them as often as they occur.

    Args:
        reader: the split.
        texts: stored texts to tell apart.

    Returns:
        [stored texts] int32: the first of `texts` that has the same tokens; -1 for those that are
        not among `texts`.
    """
    stored = len(reader.text_lengths)
    numbers = np.full(stored, -1, np.int32)
    first_with: dict[bytes, int] = {}
    for text in np.unique(texts).tolist():
        tokens = np.ascontiguousarray(reader.token_ids(text))
        # 16 bytes instead of the text: collisions are negligible, and millions of texts fit.
        hashed = hashlib.blake2b(tokens.tobytes(), digest_size=16)
        digest = hashed.digest()
        numbers[text] = first_with.setdefault(digest, text)
    return numbers


def query_of_rows(reader: SplitReader) -> np.ndarray:
    """[rows] int32, equal for rows whose query has the same tokens."""
    # The query is the first text of its row.
    first_slots = reader.row_offsets[:-1]
    queries = reader.row_texts[first_slots]
    numbers = identities(reader, queries)
    return numbers[queries]


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
        labels = np.asarray(reader.labels)
        relevant = labels[self.rows]
        self.positives = relevant.astype(np.int64)
        ends = reader.row_offsets[self.rows + 1]
        texts = ends - self.first
        # The query is one of the texts.
        self.negatives = texts - 1 - self.positives
        has_positive = (self.positives > 0).all()
        too_few_texts = (self.negatives < 0).any()
        if not has_positive or too_few_texts:
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
        running = np.arange(sizes.sum())
        within = running - np.repeat(first, sizes)
        slots = np.repeat(self.first, sizes) + within
        return self.reader.row_texts[slots]

    def candidates(self, group: int) -> Candidates:
        """(stored texts [n], relevant [n] bool) that a query has of its own."""
        positives = int(self.positives[group])
        count = positives + int(self.negatives[group])
        # Behind the query.
        begin = int(self.first[group]) + 1
        texts = self.reader.row_texts[begin : begin + count]
        # Positives stand first.
        relevant = np.arange(count) < positives
        return texts, relevant

    def length_rankings(self) -> Iterator[Candidates]:
        """(tokens [n] int64, relevant [n] bool) of every query that has negatives of its own."""
        for group in np.flatnonzero(self.negatives):
            texts, relevant = self.candidates(int(group))
            lengths = self.reader.text_lengths[texts]
            yield lengths.astype(np.int64), relevant


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
        running = np.arange(len(self.group))
        self.number = running - first_pair[self.group]
        """[pairs]: index j of the positive among its query's."""

    def __len__(self) -> int:
        return len(self.group)

    def texts(
        self,
        pairs: np.ndarray,
        epoch: int,
    ) -> np.ndarray:
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
        shape = (len(pairs), 2 + self.hard)
        texts = np.full(shape, -1, np.int64)
        texts[:, 0] = row_texts[first]
        texts[:, 1] = row_texts[first_positive + number]
        for slot in range(self.hard):
            has_slot = negatives > slot
            # Pairs of this query that came before, in this epoch and the earlier ones.
            before = number + epoch * positives
            turn = before * self.hard + slot
            # The floor only keeps the division defined: a query without negatives has no slot.
            count = np.maximum(negatives, 1)
            index = first_negative + turn % count
            chosen = index[has_slot]
            texts[has_slot, 2 + slot] = row_texts[chosen]
        return texts

    def longest(
        self,
        pairs: np.ndarray,
        epoch: int,
    ) -> np.ndarray:
        """[n] int32, tokens of each pair's longest text."""
        texts = self.texts(pairs, epoch)
        # Of a missing text, -1, the length of the last one is read and thrown away.
        lengths = self.groups.reader.text_lengths[texts]
        lengths = np.where(texts >= 0, lengths, 0)
        return lengths.max(axis=1)

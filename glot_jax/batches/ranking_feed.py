"""Feeds of a ranking: pairs to train on, and the distinct texts of a split to rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from glot_jax.batches.feed import Feed
from glot_jax.batches.placement import States
from glot_jax.batches.plan import Batch, BatchPlan
from glot_jax.batches.query_groups import Candidates, Groups, QueryPairs, identities

_BLOCK = 256  # queries scored against a whole split together


class PairPlan(BatchPlan):
    """Batches of pairs drawn without regard to length.

    Each is padded to the bucket of the longest text it has in its epoch.
    """

    def __init__(
        self,
        pairs: QueryPairs,
        bounds: tuple[int, ...],
        batch_size: int,
        seed: int,
    ):
        every = np.arange(len(pairs))
        # Of the first epoch; `batch` asks again in each.
        lengths = pairs.longest(every, 0)
        super().__init__(
            every,
            lengths,
            bounds,
            batch_size,
            seed,
            by_length=False,
        )
        self.pairs = pairs

    def batch(self, step: int) -> Batch:
        """The batch of global step `step`, counted from 0."""
        rows = super().batch(step).rows
        # Which hard negatives a pair brings, and so how long it is, changes with the epoch.
        epoch = step // self.steps_per_epoch
        real = rows[rows >= 0]
        lengths = self.pairs.longest(real, epoch)
        longest = lengths.max()
        bucket = int(np.searchsorted(self.bounds, longest))
        return Batch(rows, self.bounds[bucket])


class PairFeed(Feed):
    """TokenBatches of pairs.

    Labels are the identity of each text, [batch, slots] int32, -1 for none.
    """

    no_label = -1

    def __init__(self, plan: PairPlan, states: States):
        pairs = plan.pairs
        reader = pairs.groups.reader
        # Placeholders: texts and labels of a pair change with the epoch, and are made batch by
        # batch.
        texts = pairs.texts(plan.rows, 0)
        no_labels = np.zeros(len(pairs), np.int32)
        super().__init__(
            reader,
            plan,
            states,
            texts,
            no_labels,
        )
        self.pairs = pairs
        self.identity = identities(reader, pairs.groups.texts)

    def stored_rows(self, rows: np.ndarray) -> np.ndarray:
        """[n] int64: rows of the stored split whose query these pairs have."""
        group = self.pairs.group[rows]
        return self.pairs.groups.rows[group]

    def length_rankings(self) -> Iterator[Candidates]:
        """(tokens [n] int64, relevant [n] bool) of every query that has negatives of its own."""
        return self.pairs.groups.length_rankings()

    def _rows(
        self,
        step: int,
        rows: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        epoch = step // self.plan.steps_per_epoch
        texts = self.pairs.texts(rows, epoch)
        # Not the number of the text: two stored texts with equal tokens are one to the loss.
        identity = self.identity[texts]
        labels = np.where(texts >= 0, identity, -1)
        return texts, labels.astype(np.int32)


class TextFeed(Feed):
    """The distinct texts of an evaluation split, one a row, and who is ranked for whom.

    Where a row of the split has negatives, a query ranks its own positives and negatives. Where
    none has, it ranks all positives of the split, less the query's own text, and relevant are those
    of all rows with an equal query.

    Args:
        groups: the queries.
        plan: batches of the distinct texts.
        states: where the split's token states wait.
        identity: [stored texts], from `identities`.
        texts: [n] the distinct texts, increasing.

    Attributes:
        judged: [queries] index of the groups that can be judged: those with a relevant candidate
            and another one.
        query: [groups] index of each query among the texts of the feed.
        pool: [n] candidates of every query, or None where each has its own.
    """

    def __init__(
        self,
        groups: Groups,
        plan: BatchPlan,
        states: States,
        identity: np.ndarray,
        texts: np.ndarray,
    ):
        no_labels = np.zeros(len(texts), np.int32)
        super().__init__(
            groups.reader,
            plan,
            states,
            texts[:, None],
            no_labels,
        )
        self.groups = groups
        # Equal texts of different rows are one text of the feed, encoded once.
        distinct = identity[groups.texts]
        index = np.searchsorted(texts, distinct)
        # Of each group: the index of its query among the texts, then those of its candidates.
        ends = np.cumsum(groups.sizes)
        self._members = np.split(index, ends[:-1])
        queries = [members[0] for members in self._members]
        self.query = np.array(queries)
        self.pool: np.ndarray | None = None
        self._relevant: dict[int, set[int]] = {}
        if groups.negatives.any():
            self.judged = np.flatnonzero(groups.negatives)
        else:
            # Without negatives every text after the query is relevant to it.
            positives = [members[1:] for members in self._members]
            every = np.concatenate(positives)
            self.pool = np.unique(every)
            for members in self._members:
                query = int(members[0])
                # Rows with an equal query share their relevant texts.
                relevant = self._relevant.setdefault(query, set())
                relevant.update(members[1:].tolist())
            can_be_judged = self._has_another_candidate(self.pool)
            self.judged = np.flatnonzero(can_be_judged)

    def _has_another_candidate(self, pool: np.ndarray) -> np.ndarray:
        """[groups] bool: the pool has a text that is neither relevant nor the query itself."""
        candidates = set(pool.tolist())
        taken = []
        for query in self.query.tolist():
            relevant = self._relevant[query]
            own = query in candidates and query not in relevant
            taken.append(len(relevant) + own)
        return np.array(taken) < len(pool)

    @property
    def judged_rows(self) -> np.ndarray:
        """[queries] int64: stored rows of the queries that are judged."""
        return self.groups.rows[self.judged]

    def name_row(self, row: int) -> str:
        """What an error calls a text of the feed."""
        return f"stored text {self.texts[row, 0]}"

    def rankings(self, vectors: np.ndarray) -> Iterator[Candidates]:
        """(scores [n], relevant [n] bool) of each judged query over its candidates.

        Args:
            vectors: [texts, width] of the feed's texts; they are compared by inner product.
        """
        if self.pool is None:
            for group in self.judged.tolist():
                candidates, relevant = self.candidates(group)
                query = vectors[self.query[group]]
                yield vectors[candidates] @ query, relevant
            return
        cuts = range(_BLOCK, len(self.judged), _BLOCK)
        for block in np.split(self.judged, cuts):
            # One product for many queries; each then picks its candidates from its row. In blocks:
            # a product of all queries with all candidates may not fit into memory.
            queries = vectors[self.query[block]]
            pool = vectors[self.pool]
            scores = queries @ pool.T
            for row, group in enumerate(block):
                kept, relevant = self._kept(group, self.pool)
                yield scores[row, kept], relevant[kept]

    def length_rankings(self) -> Iterator[Candidates]:
        """(tokens [n] int64, relevant [n] bool) of each judged query's candidates."""
        # Signed: the baseline ranks by the negative length too.
        texts = self.texts[:, 0]
        lengths = self.reader.text_lengths[texts]
        lengths = lengths.astype(np.int64)
        for group in self.judged.tolist():
            candidates, relevant = self.candidates(group)
            yield lengths[candidates], relevant

    def candidates(self, group: int) -> Candidates:
        """(texts of the feed [n], relevant [n] bool) that this query ranks."""
        if self.pool is None:
            # Behind the query; positives stand first.
            candidates = self._members[group][1:]
            number = np.arange(len(candidates))
            relevant = number < self.groups.positives[group]
            return candidates, relevant
        kept, relevant = self._kept(group, self.pool)
        return self.pool[kept], relevant[kept]

    def _kept(
        self,
        group: int,
        pool: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(candidates of this query, relevant ones), both [pool] bool."""
        query = int(self.query[group])
        relevant = np.zeros(len(pool), bool)
        texts = list(self._relevant[query])
        indices = np.searchsorted(pool, texts)
        relevant[indices] = True
        # A query is not asked to find itself, unless some row says that its own text is relevant.
        kept = relevant | (pool != query)
        return kept, relevant

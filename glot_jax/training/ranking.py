"""Task `embedding`: from queries with their texts to training batches, and from text vectors to
ranking metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from glot_jax.batches.feed import Feed, States, describe_feed, place_states
from glot_jax.batches.plan import Batch, BatchPlan, choose_bounds, longest_of_batches
from glot_jax.config.train import TrainConfig
from glot_jax.errors import require
from glot_jax.objectives.metrics import METRICS
from glot_jax.objectives.ranking import RANKING, chance, query_loss, query_scores
from glot_jax.store.reader import HiddenStore
from glot_jax.store.split_reader import SplitReader
from glot_jax.training.edge_budgets import check_edges
from glot_jax.training.predictions import Predictions
from glot_jax.training.steps import TrainState

if TYPE_CHECKING:
    from glot_jax.training.prepare import Run

_IN_FLIGHT = 8  # batches, as in training
_BLOCK = 256  # queries scored against a whole split together
_ENOUGH = 2000  # training queries that tell whether long candidates or short ones are relevant


def identities(reader: SplitReader, texts: np.ndarray) -> np.ndarray:
    """[stored texts] int32: the first of `texts` that has the same tokens; -1 for those that are
    not among `texts`.

    A store made with --deduplicate has such texts once; others have them as often as they occur.
    """
    first: dict[bytes, int] = {}
    found = np.full(len(reader.text_lengths), -1, np.int32)
    for text in np.unique(texts).tolist():
        digest = hashlib.blake2b(
            np.ascontiguousarray(reader.token_ids(text)).tobytes(), digest_size=16
        ).digest()
        found[text] = first.setdefault(digest, text)
    return found


def query_of_rows(reader: SplitReader) -> np.ndarray:
    """[rows] int32, equal for rows whose query has the same tokens."""
    queries = reader.row_texts[reader.row_offsets[:-1]]
    return identities(reader, queries)[queries]


class Groups:
    """Rows of a split as queries with their texts, by number of the stored text.

    A stored row is its query, then `positives[row]` relevant texts, then `negatives[row]` others.

    Args:
        reader: split whose labels count the relevant texts of its rows.
        rows: [n] int64, the rows that take part.
    """

    def __init__(self, reader: SplitReader, rows: np.ndarray):
        self.reader, self.rows = reader, np.asarray(rows, np.int64)
        labels = reader.labels
        require(
            labels is not None,
            "rows of a ranking say how many texts are relevant",
            "a store without labels",
            "Extract it again.",
        )
        self.first = reader.row_offsets[self.rows]
        self.positives = np.asarray(labels)[self.rows].astype(np.int64)
        self.negatives = reader.row_offsets[self.rows + 1] - self.first - 1 - self.positives
        require(
            bool((self.positives > 0).all() and (self.negatives >= 0).all()),
            "a row of a ranking has a query and a relevant text",
            "a store whose labels and texts disagree",
            "Extract it again.",
        )

    @property
    def texts(self) -> np.ndarray:
        """[slots] int64: the stored text of every slot of these rows, row by row."""
        size = 1 + self.positives + self.negatives
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        return self.reader.row_texts[np.repeat(self.first, size) + within]


class Pairs:
    """Training rows: every relevant text of every query once an epoch, with some of the query's
    other texts.

    Pair j of a query with P of them takes, in epoch e, the hard negatives number (j + e P) H to (j
    + e P) H + H - 1,
    counted round: each comes up before any comes back. Of fewer than H there are as many as there
        are.
    """

    def __init__(self, groups: Groups, hard: int):
        self.groups, self.hard = groups, hard
        self.group = np.repeat(np.arange(len(groups.rows)), groups.positives)
        """[pairs]: place of the query among the groups."""
        self.place = (
            np.arange(len(self.group))
            - (np.cumsum(groups.positives) - groups.positives)[self.group]
        )
        """[pairs]: place of the positive among its query's."""

    def __len__(self) -> int:
        return len(self.group)

    def texts(self, pairs: np.ndarray, epoch: int) -> np.ndarray:
        """[n, 2 + hard] int64: stored texts of query, positive and hard negatives; -1 where there
        is none.
        """
        groups, group, place = self.groups, self.group[pairs], self.place[pairs]
        first, positives, negatives = (
            groups.first[group],
            groups.positives[group],
            groups.negatives[group],
        )
        texts = np.full((len(pairs), 2 + self.hard), -1, np.int64)
        texts[:, 0] = groups.reader.row_texts[first]
        texts[:, 1] = groups.reader.row_texts[first + 1 + place]
        for slot in range(self.hard):
            there = negatives > slot
            number = ((place + epoch * positives) * self.hard + slot) % np.maximum(negatives, 1)
            texts[there, 2 + slot] = groups.reader.row_texts[
                (first + 1 + positives + number)[there]
            ]
        return texts

    def longest(self, pairs: np.ndarray, epoch: int) -> np.ndarray:
        """[n] int32, tokens of each pair's longest text."""
        texts = self.texts(pairs, epoch)
        return np.where(texts >= 0, self.groups.reader.text_lengths[texts], 0).max(axis=1)


class PairPlan(BatchPlan):
    """Batches of pairs drawn without regard to length, each padded to the bucket of the longest
    text it has in its epoch.
    """

    def __init__(self, pairs: Pairs, bounds: tuple[int, ...], batch_size: int, seed: int):
        every = np.arange(len(pairs))
        super().__init__(every, pairs.longest(every, 0), bounds, batch_size, seed, by_length=False)
        self.pairs = pairs

    def __call__(self, step: int) -> Batch:
        batch = super().__call__(step)
        longest = self.pairs.longest(
            batch.rows[batch.rows >= 0], step // self.steps_per_epoch
        ).max()
        return Batch(batch.rows, self.bounds[int(np.searchsorted(self.bounds, longest))])


class PairFeed(Feed):
    """TokenBatches of pairs; their labels are the identity of each text, [batch, slots] int32, -1
    for none.
    """

    no_label = -1

    def __init__(self, plan: PairPlan, states: States):
        pairs = plan.pairs
        super().__init__(
            pairs.groups.reader,
            plan,
            states,
            pairs.texts(plan.rows, 0),
            np.zeros(len(pairs), np.int32),
        )
        self.pairs, self.identity = pairs, identities(self.reader, pairs.groups.texts)

    def stored_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.pairs.groups.rows[self.pairs.group[rows]]

    def _rows(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        texts = self.pairs.texts(rows, step // self.plan.steps_per_epoch)
        return texts, np.where(texts >= 0, self.identity[texts], -1).astype(np.int32)


class TextFeed(Feed):
    """The distinct texts of an evaluation split, one a row, and who is ranked for whom.

    Where a row of the split has negatives, a query ranks its own positives and negatives; where
    none has, all positives of the split, less the query's own text, and relevant are those of all
    rows with an equal query.

    Attributes: `judged` [queries] the groups that can be judged, those with a relevant and another
        candidate; `query`
    [groups], `candidates` and `relevant` by place among the texts of the feed.
    """

    def __init__(
        self,
        groups: Groups,
        plan: BatchPlan,
        states: States,
        identity: np.ndarray,
        texts: np.ndarray,
    ):
        super().__init__(
            groups.reader, plan, states, texts[:, None], np.zeros(len(texts), np.int32)
        )
        self.groups = groups
        place = np.searchsorted(texts, identity[groups.texts])
        size = 1 + groups.positives + groups.negatives
        self._of = np.split(place, np.cumsum(size)[:-1])
        self.query = np.array([of[0] for of in self._of])
        self.pool: np.ndarray | None = None
        """Candidates of every query, or None: each has its own."""
        self._wanted: dict[int, set[int]] = {}
        if not groups.negatives.any():
            self.pool = np.unique(np.concatenate([of[1:] for of in self._of]))
            for of in self._of:
                self._wanted.setdefault(int(of[0]), set()).update(of[1:].tolist())
            known = set(self.pool.tolist())
            taken = [
                len(self._wanted[query]) + (query in known and query not in self._wanted[query])
                for query in self.query.tolist()
            ]
            self.judged = np.flatnonzero(np.array(taken) < len(self.pool))
        else:
            self.judged = np.flatnonzero(groups.negatives)

    def rankings(self, vectors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(scores [n], relevant [n] bool, candidates [n]) of each judged query; vectors [texts,
        width] are compared by inner product.
        """
        if self.pool is None:
            for group in self.judged:
                candidates = self._of[group][1:]
                relevant = np.arange(len(candidates)) < self.groups.positives[group]
                yield vectors[candidates] @ vectors[self.query[group]], relevant, candidates
            return
        for block in np.split(self.judged, range(_BLOCK, len(self.judged), _BLOCK)):
            scores = vectors[self.query[block]] @ vectors[self.pool].T
            for row, group in enumerate(block):
                query = int(self.query[group])
                relevant = np.zeros(len(self.pool), bool)
                relevant[np.searchsorted(self.pool, list(self._wanted[query]))] = True
                kept = relevant | (self.pool != query)
                yield scores[row, kept], relevant[kept], self.pool[kept]


# --------------------------------------------------------------------------------------------------
# Preparing


def ranking_feeds(
    store: HiddenStore,
    config: TrainConfig,
    slots: int,
    rows: Mapping[str, tuple[str, np.ndarray]],
    residents: dict[tuple, States],
    say: Any,
) -> dict[str, Feed]:
    """A PairFeed for "train" and a TextFeed for every other split. UsageError for a split that
    cannot be judged.

    Args:
        slots: texts of a training row.
        rows: {name: (stored split, its rows)}.
        say: prints a line.
    """
    groups = {name: Groups(store[split], index) for name, (split, index) in rows.items()}
    longest = max(
        int(store[split].text_lengths[groups[name].texts].max(initial=1))
        for name, (split, _) in rows.items()
    )
    pairs = Pairs(groups["train"], slots - 2) if "train" in rows else None
    known = {
        name: identities(of.reader, of.texts) for name, of in groups.items() if name != "train"
    }
    # Distinct texts, in the order of the store.
    texts = {name: np.unique(of[of >= 0]) for name, of in known.items()}
    if pairs is not None:
        typical = longest_of_batches(pairs.longest(np.arange(len(pairs)), 0), config.batch_size)
    else:
        main = next(iter(texts))
        typical = groups[main].reader.text_lengths[texts[main]]
    bounds = choose_bounds(typical, config.buckets, longest=longest)
    feeds: dict[str, Feed] = {}
    for name, (split, _) in rows.items():
        place = (store.content, store.layers, config.mix_layers is not None, split, config.cache)
        if place not in residents:
            residents[place] = place_states(store[split], config.cache)
        if name == "train" and pairs is not None:
            feeds[name] = PairFeed(
                PairPlan(pairs, bounds, config.batch_size, config.seed), residents[place]
            )
            continue
        lengths = groups[name].reader.text_lengths[texts[name]]
        plan = BatchPlan(np.arange(len(lengths)), lengths, bounds, config.eval_batch_size, None)
        feeds[name] = feed = TextFeed(
            groups[name], plan, residents[place], known[name], texts[name]
        )
        queries = len(groups[name].rows)
        require(
            len(feed.judged) > 0,
            "a query of an evaluation split has a relevant and another candidate",
            f"{name}, whose {queries} queries have none to tell apart",
            "Add negatives, or further queries.",
        )
        candidates = (
            "its own candidates"
            if feed.pool is None
            else f"{len(feed.pool):,} candidates, all positives of the split"
        )
        left_out = (
            f"; {queries - len(feed.judged):,} others have nothing to tell apart"
            if len(feed.judged) < queries
            else ""
        )
        say(f"{name}: each of {len(feed.judged):,} queries ranks {candidates}{left_out}")
    if pairs is not None:
        without = int((groups["train"].negatives == 0).sum())
        hard = (
            f" and {slots - 2} of their own negatives; {without:,} of {len(groups['train'].rows):,}"
            " queries have none"
            if slots > 2
            else ""
        )
        say(
            f"train: {len(pairs):,} pairs of {len(groups['train'].rows):,} queries, with the other"
            f" texts of a batch as negatives{hard}"
        )
    say(describe_feed(store, feeds))
    return feeds


# --------------------------------------------------------------------------------------------------
# Judging


def evaluate_ranking(
    run: Run, state: TrainState, split: str
) -> tuple[dict[str, float], Predictions]:
    """The metrics of one split and its mean loss (`query_loss`); and the scores [queries, 3] of
    every query, with the number of relevant texts.

    Raises:
        UsageError: a vector that is not finite, or a sparse batch that overflowed.
    """
    feed, temperature = run.feeds[split], run.config.objective.loss_temperature
    assert isinstance(feed, TextFeed)
    vectors = text_vectors(run, feed, state, split)
    scores, losses, relevant = [], [], []
    for similarity, wanted, _ in feed.rankings(vectors):
        scores.append(query_scores(similarity, wanted))
        losses.append(query_loss(similarity / temperature, wanted))
        relevant.append(int(wanted.sum()))
    table, labels = np.stack(scores), np.array(relevant, np.int32)
    rows = feed.groups.rows[feed.judged]
    metrics = {name: METRICS[name](table, labels) for name in RANKING}
    return {**metrics, "loss": float(np.mean(losses))}, Predictions(table, labels, rows)


def text_vectors(run: Run, feed: TextFeed, state: TrainState, split: str) -> np.ndarray:
    """[texts, width] float32 in the order of the feed's texts."""
    count = feed.plan.steps_per_epoch
    results: list[Any] = []
    for step, batch in feed.batches(0, count):
        results.append(run.steps.features(state, batch))
        if step >= _IN_FLIGHT:
            results[step - _IN_FLIGHT]["features"].block_until_ready()
    results = jax.device_get(results)
    check_edges(
        feed,
        run.steps.edge_budgets,
        [int(result["dropped_edges"]) for result in results],
        range(count),
        split,
        run.config.out,
    )
    rows = np.concatenate([feed.plan(step).rows for step in range(count)])
    vectors = np.concatenate([result["features"] for result in results])[rows >= 0]
    ordered = np.empty_like(vectors)
    ordered[rows[rows >= 0]] = vectors
    broken = np.flatnonzero(~np.isfinite(ordered).all(axis=1))
    require(
        len(broken) == 0,
        "every vector of the model is finite",
        f"{len(broken)} that are not, the first of stored text {feed.texts[broken[:1], 0]} of"
        f" {split}",
        "Lower --lr; the last checkpoint is kept.",
    )
    return ordered


def baselines(train: Feed, reported: Feed) -> dict[str, dict[str, float]]:
    """`majority`: what a random order scores on average; `length`: the longest candidate first, or
    the shortest, whichever is better on training queries with negatives (the longest where there
    are none). Both of the reported split.
    """
    assert isinstance(train, PairFeed)
    assert isinstance(reported, TextFeed)
    lengths = reported.reader.text_lengths[reported.texts]
    rankings = list(_lengths_of(reported, lengths))
    by_chance = np.stack([chance(len(relevant), int(relevant.sum())) for _, relevant in rankings])
    sign = -1 if _short_ones(train.pairs.groups) else 1
    by_length = np.stack([query_scores(sign * of, relevant) for of, relevant in rankings])
    tables = {"majority": by_chance, "length": by_length}
    return {
        key: dict(zip(RANKING, map(float, table.mean(axis=0)), strict=True))
        for key, table in tables.items()
    }


def _lengths_of(feed: TextFeed, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    # Of vectors without a width the product is empty: only the candidates are wanted here.
    for _, relevant, candidates in feed.rankings(np.zeros((len(lengths), 0), np.float32)):
        yield lengths[candidates, 0].astype(np.int64), relevant


def _short_ones(groups: Groups) -> bool:
    """Whether ranking the shortest candidates first is better than the longest first."""
    totals = np.zeros(2)
    for group in np.flatnonzero(groups.negatives)[:_ENOUGH]:
        first, size = (
            int(groups.first[group]) + 1,
            int(groups.positives[group] + groups.negatives[group]),
        )
        lengths = groups.reader.text_lengths[groups.reader.row_texts[first : first + size]].astype(
            np.int64
        )
        relevant = np.arange(size) < groups.positives[group]
        totals += [query_scores(sign * lengths, relevant)[0] for sign in (1, -1)]
    return bool(totals[1] > totals[0])

"""How the rows of a store become feeds: one text block a row, or queries and their texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from glot_jax.batches.feed import Feed, describe_feed, longest_text_per_row
from glot_jax.batches.placement import States
from glot_jax.batches.plan import BatchPlan, choose_bounds, longest_of_batches
from glot_jax.batches.query_groups import Groups, QueryPairs, identities, query_of_rows
from glot_jax.batches.ranking_feed import PairFeed, PairPlan, TextFeed
from glot_jax.batches.split_rows import Splits, Units
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.store.reader import HiddenStore
from glot_jax.store.split_reader import SplitReader


@dataclasses.dataclass(frozen=True)
class FeedRequest:
    """Everything that feeds are made of."""

    store: HiddenStore
    splits: Splits
    config: TrainConfig
    texts_per_row: int
    """Texts of a training row."""
    states: Callable[[str], States]
    """Stored split -> its token states, placed."""
    report: Callable[[str], None]
    """Takes a line for people to read."""

    def reader(self, name: str) -> SplitReader:
        """The stored split behind a reported one."""
        stored = self.splits.rows[name].split
        return self.store[stored]

    def placed(self, name: str) -> States:
        """Token states of the stored split behind a reported one."""
        stored = self.splits.rows[name].split
        return self.states(stored)


class FeedKind(Units, Protocol):
    """One way to feed the rows of a store."""

    def build(self, request: FeedRequest) -> dict[str, Feed]:
        """A feed for every reported split, "train" first if there is one.

        Raises:
            UsageError: a split that cannot be trained or judged on.
        """
        ...


class RowFeeds:
    """A row is its texts and a label."""

    unit = "rows"

    def units(self, split: SplitReader) -> np.ndarray:
        """Every row by itself."""
        # Not by the manifest's count: memory is taken for what a file holds.
        return np.arange(len(split.row_offsets) - 1)

    def smallest_holdout(self, split: SplitReader) -> int:
        """One row can be judged."""
        del split
        return 1

    def build(self, request: FeedRequest) -> dict[str, Feed]:
        """See `FeedKind.build`."""
        config = request.config
        # Of all splits first: the longest text of any of them decides the last bucket, which they
        # share.
        lengths = {}
        for name, split in request.splits.rows.items():
            longest = longest_text_per_row(request.reader(name))
            lengths[name] = longest[split.rows]
        bounds = _row_bounds(lengths, config)
        feeds = {}
        for name, split in request.splits.rows.items():
            if name == "train":
                plan = BatchPlan(
                    split.rows,
                    lengths[name],
                    bounds,
                    config.batch_size,
                    config.seed,
                    by_length=config.batches == "by-length",
                )
            else:
                # Whatever training does: scores do not depend on who shares a batch.
                plan = BatchPlan(
                    split.rows,
                    lengths[name],
                    bounds,
                    config.eval_batch_size,
                    seed=None,
                )
            reader = request.reader(name)
            states = request.placed(name)
            feeds[name] = Feed(reader, plan, states)
        request.report(describe_feed(request.store, feeds))
        return feeds


def _row_bounds(
    lengths: dict[str, np.ndarray],
    config: TrainConfig,
) -> tuple[int, ...]:
    """Padded lengths that suit the first split ("train", if there is one) and hold all others."""
    longest = 1
    for split in lengths.values():
        # A split may have no rows.
        longest_there = int(split.max(initial=1))
        longest = max(longest, longest_there)
    typical = next(iter(lengths.values()))
    if config.batches != "by-length":
        # A batch of any rows is as long as its longest: buckets must suit those.
        typical = longest_of_batches(typical, config.batch_size)
    return choose_bounds(typical, _count_of(config), longest=longest)


def _count_of(config: TrainConfig) -> int:
    # Whoever builds feeds has settled it: it must be the same for all seeds of a run.
    assert config.buckets is not None
    return config.buckets


class QueryFeeds:
    """A row is a query with relevant and other texts: trained in pairs, judged text by text."""

    unit = "queries"

    def units(self, split: SplitReader) -> np.ndarray:
        """Rows with one query belong together.

        Another row of a query that was trained on would not be unseen.
        """
        # Numbered without gaps, so that a permutation of the numbers draws queries.
        queries = query_of_rows(split)
        _, numbers = np.unique(queries, return_inverse=True)
        return numbers

    def smallest_holdout(self, split: SplitReader) -> int:
        """A query without negatives of its own is ranked among the texts of another one."""
        return 1 if _all_have_negatives(split) else 2

    def build(self, request: FeedRequest) -> dict[str, Feed]:
        """See `FeedKind.build`: a PairFeed for "train" and a TextFeed for every other split."""
        config = request.config
        groups = {}
        for name, split in request.splits.rows.items():
            reader = request.reader(name)
            groups[name] = Groups(reader, split.rows)
        # A trained run is judged on stores that have no train split.
        pairs = None
        if "train" in groups:
            # Two of the texts of a row are the query and its positive.
            hard = request.texts_per_row - 2
            pairs = QueryPairs(groups["train"], hard)
        ranked = {}
        for name, group in groups.items():
            if name != "train":
                ranked[name] = _Ranked(group)
        bounds = _query_bounds(groups, pairs, ranked, config)
        feeds: dict[str, Feed] = {}
        for name in request.splits.rows:
            if name == "train" and pairs is not None:
                plan = PairPlan(
                    pairs,
                    bounds,
                    config.batch_size,
                    config.seed,
                )
                feeds[name] = PairFeed(plan, request.placed(name))
                continue
            states = request.placed(name)
            feed = ranked[name].feed(
                bounds,
                config.eval_batch_size,
                states,
            )
            request.report(_describe_ranking(name, feed))
            feeds[name] = feed
        if pairs is not None:
            request.report(_describe_pairs(pairs))
        request.report(describe_feed(request.store, feeds))
        return feeds


class _Ranked:
    """The distinct texts of an evaluation split."""

    def __init__(self, groups: Groups):
        self.groups = groups
        self.identity = identities(groups.reader, groups.texts)
        # In the order of the store.
        distinct = self.identity[self.identity >= 0]
        self.texts = np.unique(distinct)
        self.lengths = groups.reader.text_lengths[self.texts]

    def feed(
        self,
        bounds: tuple[int, ...],
        batch_size: int,
        states: States,
    ) -> TextFeed:
        rows = np.arange(len(self.lengths))
        plan = BatchPlan(
            rows,
            self.lengths,
            bounds,
            batch_size,
            seed=None,
        )
        return TextFeed(
            self.groups,
            plan,
            states,
            self.identity,
            self.texts,
        )


def _query_bounds(
    groups: dict[str, Groups],
    pairs: QueryPairs | None,
    ranked: dict[str, _Ranked],
    config: TrainConfig,
) -> tuple[int, ...]:
    longest = 1
    for group in groups.values():
        lengths = group.reader.text_lengths[group.texts]
        longest_there = int(lengths.max(initial=1))
        longest = max(longest, longest_there)
    if pairs is None:
        # Texts of a split stand alone; in training the longest of a pair, and of a batch, decides.
        first = next(iter(ranked.values()))
        typical = first.lengths
    else:
        # Of epoch 0: others bring other negatives, but shapes are chosen once for the whole run.
        every = np.arange(len(pairs))
        lengths = pairs.longest(every, 0)
        typical = longest_of_batches(lengths, config.batch_size)
    return choose_bounds(typical, _count_of(config), longest=longest)


def _all_have_negatives(split: SplitReader) -> bool:
    candidates = np.diff(split.row_offsets) - 1
    if split.labels is None:
        # What is wrong with such a store is said where its queries are read.
        return bool((candidates > 0).all())
    # The label of such a row is the number of its positives.
    positives = np.asarray(split.labels)
    has_negative = candidates > positives
    return bool(has_negative.all())


def _describe_ranking(name: str, feed: TextFeed) -> str:
    """What the queries of a split rank.

    Raises:
        UsageError: none of them has anything to tell apart.
    """
    queries = len(feed.groups.rows)
    judged = len(feed.judged)
    # Whatever the model does, such a split would score 1.
    if judged == 0:
        raise UsageError(
            rule="a query of an evaluation split must have a relevant and another candidate",
            got=f"{name}, whose {queries} queries have none to tell apart",
            fix="Add negatives, or further queries.",
        )
    candidates = "its own candidates"
    if feed.pool is not None:
        candidates = f"{len(feed.pool):,} candidates, all positives of the split"
    line = f"{name}: each of {judged:,} queries ranks {candidates}"
    if judged < queries:
        line += f"; {queries - judged:,} others have nothing to tell apart"
    return line


def _describe_pairs(pairs: QueryPairs) -> str:
    """What a training batch is made of."""
    queries = len(pairs.groups.rows)
    line = (
        f"train: {len(pairs):,} pairs of {queries:,} queries, with the other texts of a batch as"
        " negatives"
    )
    if pairs.hard > 0:
        has_none = pairs.groups.negatives == 0
        without = int(has_none.sum())
        line += (
            f" and {pairs.hard} of their own negatives; {without:,} of {queries:,} queries have"
            " none"
        )
    return line


# Objects and not classes: they hold nothing, and all runs share them.
FEEDS: dict[str, FeedKind] = {"rows": RowFeeds(), "queries": QueryFeeds()}
"""Ways to feed a run, by the name that an objective gives as its `feeds`."""

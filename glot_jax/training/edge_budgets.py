"""How many edges a sparse batch must hold, measured on texts of the store before it is compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from glot_jax.batches.feed import Feed
from glot_jax.errors import UsageError
from glot_jax.graphs import Stem
from glot_jax.training.steps import edge_counter

SPARSE_LENGTH = 4096
"""Tokens from which on a list of edges may beat a bit for every pair."""
SPARSE_DENSITY = 1 / 1024
"""Share of all pairs up to which it does.

Measured on two CPU cores by benchmarks/backends.py: 4 x 4,096 tokens at a density of .0007 take
4.9 s a training step against dense's 5.4 and blockwise's 7.3; 16 x 1,024 tokens at .003 take 1.8 to
2.8 s against 1.65 and 1.9 to 2.5, and the more edges, the further behind.
"""
_SAMPLE = 2048  # texts measured per bucket and split
_GLANCE = 16  # texts whose density decides whether measuring is worth while


def edge_budgets(stem: Stem, feeds: Mapping[str, Feed]) -> dict[tuple[int, int], int]:
    """(texts, length) of a batch -> its edge budget, for shapes that the sparse backend computes.

    A budget is a power of two above mean + 6 deviations of a batch's edges, from up to 2048 texts
    per bucket and split. With `auto` only long texts are measured, and the sparse backend takes
    those with few edges.
    """
    backend = stem.config.backend
    # A learned threshold has soft edges between all pairs of tokens, which no list can hold.
    # A control puts edges elsewhere on the dense backend alone.
    if stem.config.learn_tau or stem.config.control != "none":
        return {}
    if backend not in ("sparse", "auto"):
        return {}
    budgets: dict[tuple[int, int], int] = {}
    for feed in feeds.values():
        for length in feed.plan.bounds:
            if backend == "auto" and not _may_be_sparse(stem, feed, length):
                continue
            shape = (feed.texts_per_batch, length)
            budget = stem.config.edge_budget or _measure(stem, feed, length)
            # Splits may share a shape: one executable serves both.
            budgets[shape] = max(budget, budgets.get(shape, 0))
    if backend == "sparse":
        return budgets
    # A glance at a few texts let these through; with all samples counted some prove too dense.
    sparse = {}
    for shape, budget in budgets.items():
        if is_sparse(*shape, budget):
            sparse[shape] = budget
    return sparse


def describe_budgets(budgets: Mapping[tuple[int, int], int]) -> list[str]:
    """A line for each shape that is computed sparse."""
    lines = []
    for (texts, length), budget in budgets.items():
        lines.append(
            f"sparse: {texts} texts of {length} tokens have room for {texts * length + 1:,} nodes"
            f" and {budget:,} edges"
        )
    return lines


def is_sparse(texts: int, length: int, edges: int) -> bool:
    """Whether listing this many edges is faster than looking at every pair.

    Never on accelerators, where it was not measured.
    """
    if jax.default_backend() != "cpu" or length < SPARSE_LENGTH:
        return False
    return edges <= SPARSE_DENSITY * texts * length**2


def _may_be_sparse(stem: Stem, feed: Feed, length: int) -> bool:
    """Whether a few texts of this bucket suggest that its edges should be counted."""
    if length < SPARSE_LENGTH:
        return False
    edges = _measure(stem, feed, length, _GLANCE)
    return is_sparse(feed.texts_per_batch, length, edges)


def _measure(
    stem: Stem,
    feed: Feed,
    length: int,
    sample: int = _SAMPLE,
) -> int:
    """The budget of a batch of this bucket, from the edges of `sample` of its texts."""
    texts = feed.texts_per_batch
    # Rows of the bucket itself: what moves up from a shorter one has fewer edges and would only
    # thin the mean.
    plan = feed.plan
    shorter_bounds = [bound for bound in plan.bounds if bound < length]
    # -1, so that the shortest bucket takes texts without any token.
    shorter = max(shorter_bounds, default=-1)
    in_bucket = (plan.lengths > shorter) & (plan.lengths <= length)
    rows = plan.rows[in_bucket]
    if len(rows) == 0:
        # Rows may still come here from shorter buckets: room for every pair of every text.
        return power_of_two(texts * length * length)
    # Always the same texts: equal runs have equal budgets and so equal programs.
    order = np.random.default_rng(0).permutation(len(rows))
    rows = rows[order[:sample]]
    sampled = feed.texts[rows].reshape(-1)
    # -1 stands for a place of the row that no text fills.
    sampled = sampled[sampled >= 0]
    count = edge_counter(stem)
    counts = []
    # Chunks of about four million pairs of tokens, so that counting needs little memory.
    pairs = len(sampled) * length * length
    chunks = min(len(sampled), max(1, pairs >> 22))
    for chunk in np.array_split(sampled, chunks):
        starts = feed.reader.text_offsets[chunk]
        lengths = feed.reader.text_lengths[chunk]
        hidden, mask = feed.states.gather(starts, lengths, length)
        counts.append(np.asarray(count(hidden, mask)))
    edges = np.concatenate(counts).astype(np.float64)
    # A sum of independent texts: the deviation grows with the root of their number.
    margin = 6 * math.sqrt(texts) * edges.std()
    expected = texts * edges.mean() + margin
    # No batch has more edges than if all its texts were the densest one.
    most = texts * edges.max()
    needed = math.ceil(min(expected, most))
    return power_of_two(needed + 1)


def check_edges(
    feed: Feed,
    budgets: Mapping[tuple, int],
    dropped: list[int],
    steps: range,
    split: str,
    out: Path,
) -> None:
    """Make sure that no step dropped edges.

    Args:
        feed: whose batches the steps had.
        budgets: of the run.
        dropped: edges that did not fit, for each of the steps.
        steps: their numbers.
        split: name of the feed.
        out: the run's folder.

    Raises:
        UsageError: a sparse batch dropped edges; it names the budget to use.
    """
    for step, missing in zip(steps, dropped, strict=True):
        if missing == 0:
            continue
        budget = budgets[feed.texts_per_batch, feed.plan.batch(step).length]
        enough = power_of_two(budget + missing)
        raise UsageError(
            rule=f"a sparse batch must hold at most {budget:,} edges",
            got=f"{budget + missing:,} in a batch of {split}, {missing:,} too many",
            fix=f"Give --edge-budget {enough} or more, with --resume {out} if it was training.",
        )


def power_of_two(edges: int) -> int:
    """The least power of two that is not below `edges`."""
    # Of an integer's bits, because a logarithm may round a large power of two to its neighbour.
    return 1 << max(0, edges - 1).bit_length()

"""How many edges a sparse batch must hold: measured on the store's own texts, before the first step
is compiled.
"""

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

SPARSE_LENGTH, SPARSE_DENSITY = 4096, 1 / 1024
"""From this length on, and up to this share of all pairs, edges in a list beat a bit for every
pair. Measured on two CPU cores by benchmarks/backends.py: 4 x 4,096 tokens at a density of .0007:
4.9 s a training step against dense's 5.4 and blockwise's 7.3; 16 x 1,024 tokens at .003: 1.8 to 2.8
s against 1.65 and 1.9 to 2.5, and the more edges, the further behind."""
_SAMPLE = 2048  # texts measured per bucket and split
_GLANCE = 16  # texts that tell whether it is worth while


def edge_budgets(stem: Stem, feeds: Mapping[str, Feed]) -> dict[tuple[int, int], int]:
    """(texts, length) of a batch -> its edge budget, for the shapes that the sparse backend
    computes; nothing for the others.

    A budget is a power of two above mean + 6 deviations of a batch's edges, from up to 2048 texts
    per bucket and split. With `auto` only long texts are measured, and the sparse backend takes
    those with few edges.
    """
    chosen = stem.config.backend == "auto"
    if stem.config.backend not in ("sparse", "auto") or stem.config.learn_tau:
        return {}
    budgets: dict[tuple[int, int], int] = {}
    for feed in feeds.values():
        for length in feed.plan.bounds:
            if chosen and length < SPARSE_LENGTH:
                continue
            shape = (feed.texts_per_batch, length)
            if chosen and not is_sparse(*shape, _measure(stem, feed, length, shape[0], _GLANCE)):
                continue
            budget = stem.config.edge_budget or _measure(stem, feed, length, shape[0])
            budgets[shape] = max(budget, budgets.get(shape, 0))
    return {
        shape: budget
        for shape, budget in budgets.items()
        if not chosen or is_sparse(*shape, budget)
    }


def is_sparse(texts: int, length: int, edges: int) -> bool:
    """Whether listing this many edges is faster than looking at every pair.

    Never on accelerators, where it was not measured.
    """
    return (
        jax.default_backend() == "cpu"
        and length >= SPARSE_LENGTH
        and edges <= SPARSE_DENSITY * texts * length**2
    )


def _measure(stem: Stem, feed: Feed, length: int, texts: int, sample: int = _SAMPLE) -> int:
    # Rows of the bucket itself: what moves up from a shorter one has fewer edges and would only
    # thin the mean.
    shorter = max((bound for bound in feed.plan.bounds if bound < length), default=-1)
    rows = feed.plan.rows[(feed.plan.lengths > shorter) & (feed.plan.lengths <= length)]
    if not len(rows):
        return power_of_two(texts * length * length)
    rows = rows[np.random.default_rng(0).permutation(len(rows))[:sample]]
    chosen = feed.texts[rows].reshape(-1)
    chosen = chosen[chosen >= 0]
    counts = []
    count = edge_counter(stem)
    for chunk in np.array_split(
        chosen, min(len(chosen), max(1, len(chosen) * length * length >> 22))
    ):
        starts, lengths = feed.reader.text_offsets[chunk], feed.reader.text_lengths[chunk]
        hidden, mask = feed.states.gather(starts, lengths, length)
        counts.append(np.asarray(count(hidden, mask)))
    edges = np.concatenate(counts).astype(np.float64)
    expected = texts * edges.mean() + 6 * math.sqrt(texts) * edges.std()
    return power_of_two(math.ceil(min(expected, texts * edges.max())) + 1)


def check_edges(
    feed: Feed,
    budgets: Mapping[tuple, int],
    dropped: list[int],
    steps: range,
    split: str,
    out: Path,
) -> None:
    """UsageError, with the budget to use, for the first of these steps of a feed in which a sparse
    batch dropped edges. `out` is the run's folder.
    """
    for step, missing in zip(steps, dropped, strict=True):
        if missing:
            budget = budgets[feed.texts_per_batch, feed.plan(step).length]
            raise UsageError(
                f"a sparse batch holds at most {budget:,} edges",
                f"{budget + missing:,} in a batch of {split}, {missing:,} too many",
                f"Give --edge-budget {power_of_two(budget + missing)} or more, with --resume {out}"
                " if it was training.",
            )


def power_of_two(edges: int) -> int:
    """The least one that holds so many edges."""
    return 1 << max(0, edges - 1).bit_length()

"""How many padded lengths a run has: as many as save more time than compiling them takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glot_jax.batches.plan import choose_bounds

MOST = 6
"""Buckets that are considered: what each further one can save becomes less."""


def cheapest_count(
    lengths: np.ndarray,
    *,
    repeats: float,
    row_seconds: Callable[[np.ndarray], np.ndarray],
    compile_seconds: float,
) -> int:
    """The number of buckets with the least time for padding and compiling together.

    Args:
        lengths: [rows] int, tokens of each row's longest text.
        repeats: how often each row is trained on.
        row_seconds: padded lengths [n] -> seconds [n] that a row of each takes.
        compile_seconds: what every bucket costs once.

    Returns:
        From 1 to MOST; of equals the fewest.
    """
    totals = []
    for count in range(1, MOST + 1):
        bounds = np.array(choose_bounds(lengths, count))
        rows = np.bincount(np.searchsorted(bounds, lengths), minlength=len(bounds))
        training = repeats * float(rows @ row_seconds(bounds))
        totals.append(training + compile_seconds * len(bounds))
    return 1 + int(np.argmin(totals))

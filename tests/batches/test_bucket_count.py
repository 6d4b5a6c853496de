"""How many buckets: fewer where compiling is dear, more where padding is."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.batches.bucket_count import MOST, cheapest_count
from glot_jax.batches.plan import choose_bounds

LENGTHS = np.random.default_rng(0).geometric(0.08, 2000)


def count(repeats: float, compile_seconds: float, lengths: np.ndarray = LENGTHS) -> int:
    return cheapest_count(
        lengths,
        repeats=repeats,
        row_seconds=lambda padded: 1e-4 * padded,
        compile_seconds=compile_seconds,
    )


def test_dear_programs_and_short_runs_have_one_bucket():
    assert count(1, 1e6) == 1
    assert count(1e-6, 1) == 1


def test_the_count_grows_with_the_run_and_never_without_use():
    counts = [count(repeats, 2.0) for repeats in (0.1, 1, 10, 100, 1e6)]
    assert counts == sorted(counts)
    assert counts[-1] == MOST
    # Texts of one length have nothing to save.
    assert count(1e6, 2.0, np.full(100, 12)) == 1


@pytest.mark.parametrize("repeats", [1, 7, 40])
def test_no_other_count_is_cheaper(repeats):
    def seconds(buckets: int) -> float:
        bounds = np.array(choose_bounds(LENGTHS, buckets))
        padded = bounds[np.searchsorted(bounds, LENGTHS)]
        return repeats * 1e-4 * padded.sum() + 0.5 * len(bounds)

    best = count(repeats, 0.5)
    assert seconds(best) == min(seconds(buckets) for buckets in range(1, MOST + 1))

"""Norms are counted exactly, add up, and tell sinks from the other states."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic_stores import make_store
from support.typed import present

from glot_jax.errors import UsageError
from glot_jax.store.info import describe
from glot_jax.store.norms import POSITIONS, SINK_RATIO, LayerNorms, norms_of, positions_in


def counted(lengths: list[int], seed: int = 0, sinks: tuple[int, ...] = ()) -> LayerNorms:
    """Norms about 10, and of 5,000 at some positions of every text."""
    rng = np.random.default_rng(seed)
    positions = positions_in(np.array(lengths, np.int32))
    norms = rng.uniform(8, 12, len(positions))
    norms[np.isin(positions, sinks)] = 5_000
    return LayerNorms.of(norms, positions)


@settings(deadline=None, max_examples=50)
@given(
    lengths=st.lists(st.integers(0, 20), max_size=8),
    cut=st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_parts_add_up_to_the_whole(lengths, cut, seed):
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths, np.int32)
    positions = positions_in(lengths)
    norms = rng.lognormal(3, 2, len(positions)).astype(np.float32)
    whole = LayerNorms.joined([LayerNorms.of(norms, positions)])
    first = int(lengths[:cut].sum())
    parts = [
        LayerNorms.of(norms[:first], positions[:first]),
        LayerNorms.of(norms[first:], positions[first:]),
    ]
    joined = LayerNorms.joined(parts)
    assert joined.counts == whole.counts
    np.testing.assert_allclose(joined.totals, whole.totals)
    assert joined.tokens == len(norms)
    assert LayerNorms.from_json(json.loads(json.dumps(joined.to_json()))) == joined


def test_positions_are_counted_from_each_texts_first_token():
    assert positions_in(np.array([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("sinks", [(0,), (0, 3), (2,), (0, POSITIONS + 4)])
def test_sinks_are_found_where_they_are(sinks):
    norms = counted([30, 20, 25], sinks=sinks)
    expected = {min(place, POSITIONS): 3 for place in sinks}
    assert norms.sinks() == expected
    # The median is that of the others, to the width of a bin.
    assert 9.5 < norms.median() < 10.5
    assert norms.limit() == SINK_RATIO * norms.median()
    assert present(norms.mean(min(sinks[0], POSITIONS))) > 1_000


def test_short_texts_of_which_half_are_sinks():
    # Position 0 is half of all states: the median of all would lie among the sinks.
    norms = counted([2] * 9 + [1] * 4, sinks=(0,))
    assert norms.sinks() == {0: 13}
    assert norms.median() < 13


def test_without_a_sink_there_is_no_limit():
    assert counted([5, 5]).limit() is None
    assert counted([5, 5]).sinks() == {}
    nothing = LayerNorms.joined([])
    assert nothing.limit() is None
    assert nothing.median() == 0
    assert nothing.mean(0) is None
    zeros = LayerNorms.of(np.zeros(4), np.arange(4))
    assert zeros.limit() is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16", "int8"])
def test_norms_are_of_the_states_as_they_are_stored(dtype):
    import ml_dtypes

    rng = np.random.default_rng(1)
    states = rng.normal(0, 50, (6, 32))
    scales = None
    if dtype == "int8":
        scales = (np.abs(states).max(1) / 127).astype(np.float16)
        stored = np.round(states / scales[:, None]).astype(np.int8)
        exact = stored.astype(np.float64) * scales[:, None]
    elif dtype == "bfloat16":
        rounded = states.astype(ml_dtypes.bfloat16)
        stored = rounded.view(np.uint16)
        exact = rounded.astype(np.float64)
    else:
        stored = states.astype(dtype)
        exact = stored.astype(np.float64)
    expected = np.linalg.norm(exact, axis=1)
    np.testing.assert_allclose(norms_of(stored, dtype, scales, dim=32), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "damage",
    [
        [],
        [{}] * (POSITIONS + 1),
        "norms",
        [{"sum": 1, "counts": {"x": 1}}] * (POSITIONS + 1),
        [{"sum": 1, "counts": {"70000": 1}}] * (POSITIONS + 1),
        [{"sum": 1, "counts": {"5": 10**30}}] * (POSITIONS + 1),
        [{"sum": 1, "counts": {"5": -1}}] * (POSITIONS + 1),
        [{"sum": None, "counts": {}}] * (POSITIONS + 1),
    ],
)
def test_damaged_norms_are_one_message(tmp_path, damage):
    store = make_store(tmp_path / "store")
    path = store / "manifest.json"
    values = json.loads(path.read_text())
    for split in values["splits"].values():
        for shard in split["shards"]:
            shard["norms"] = {"2": damage}
    path.write_text(json.dumps(values))
    with pytest.raises(UsageError, match="norms|manifest"):
        describe(store)

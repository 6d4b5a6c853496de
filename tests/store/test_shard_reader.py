"""Reading one shard: what its files say must fit together."""

import dataclasses

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.store import read_manifest
from glot_jax.store.shard_reader import ShardReader, offsets_of


@pytest.fixture
def shard(store):
    """The second shard of train, unchecked: tests replace its files."""
    record = read_manifest(store).splits["train"].shards[1]
    return ShardReader(store / "train" / "shard-00001", 1, record, trust=True)


@pytest.mark.parametrize("lengths", [[], [3], [0, 2, 0, 5]])
def test_offsets_are_int64_and_end_with_the_sum(lengths):
    offsets = offsets_of(lengths)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [sum(lengths[:index]) for index in range(len(lengths) + 1)]


def test_a_text_is_the_span_of_its_tokens(shard):
    span = shard.span(2)
    assert span == slice(shard.offsets[2], shard.offsets[3])
    assert len(shard.token_ids[span]) == shard.lengths[2]
    assert shard.read(2, span).shape == (shard.lengths[2], 8)
    assert shard.read(0, span).dtype == np.float16


@pytest.mark.parametrize("change", [lambda lengths: lengths + 1, lambda lengths: lengths - 20])
def test_lengths_that_do_not_fit_the_tokens_are_refused(store, shard, change):
    path = store / "train" / "shard-00001" / "lengths.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(UsageError, match=r"must add up to its tokens; got .*lengths\.npy"):
        _ = shard.lengths


def quantised(store, scales):
    """The shard as int8 with these scales."""
    folder = store / "train" / "shard-00001"
    record = read_manifest(store).splits["train"].shards[1]
    np.save(folder / "hidden-L2-00001.npy", np.full((record.tokens, 8), 3, np.int8))
    np.save(folder / "scale-L2-00001.npy", scales.astype(np.float16))
    files = dict(record.files)
    for name in ("hidden-L2-00001.npy", "scale-L2-00001.npy"):
        files[name] = {"sha256": "0" * 64, "bytes": (folder / name).stat().st_size}
    record = dataclasses.replace(record, dtypes={"2": "int8"}, files=files)
    return ShardReader(folder, 1, record, trust=True)


def test_int8_states_are_multiplied_by_their_scales(store, shard):
    tokens = int(shard.offsets[-1])
    states = quantised(store, np.full(tokens, 0.5)).read(2, slice(0, tokens))
    assert states.dtype == np.float32
    np.testing.assert_array_equal(states, np.full((tokens, 8), 1.5))


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_scales_that_are_not_finite_are_refused(store, shard, scale):
    scales = np.ones(int(shard.offsets[-1]))
    scales[-1] = scale
    with pytest.raises(UsageError, match="scales of int8 states must be finite"):
        quantised(store, scales).read(2, slice(0, 1))

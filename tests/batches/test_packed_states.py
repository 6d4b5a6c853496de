"""int4 states on the device: unpacked in the program to the bits that the host reads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.extraction_case import make_case, run

from glot_jax.batches.packed_states import PackedStates
from glot_jax.batches.placement import DeviceStates, HostStates, bytes_on_device, states_bytes
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore
from glot_jax.training import train


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    config = make_case(
        folder,
        {"train": 60, "validation": 20},
        layers=(1, 2),
        storage_dtype="int4",
        shard_tokens=100,
    )
    run(config)
    return config.out


@pytest.mark.parametrize("layers", [{"layer": 2}, {"layers": (1, 2)}])
def test_device_and_host_gather_the_same_bits(store, layers):
    reader = HiddenStore(store, **layers)["train"]
    assert reader.is_packed
    device = DeviceStates(reader)
    host = HostStates(reader, copy=True)
    assert isinstance(device.tokens, PackedStates)
    texts = np.array([3, 0, 17, 41, 3])
    starts = reader.text_offsets[texts]
    lengths = reader.text_lengths[texts].astype(np.int32)
    # The last one only fills the batch.
    lengths[-1] = 0
    packed, packed_mask = device.gather(starts, lengths, 16)
    plain, plain_mask = host.gather(starts, lengths, 16)
    np.testing.assert_array_equal(packed, plain)
    np.testing.assert_array_equal(packed_mask, plain_mask)
    assert packed.dtype == reader.dtype
    # 32 wide a group is half full: 16 bytes and a scale, where float16 has 64.
    assert bytes_on_device(reader) / states_bytes(reader) == 18 / 64


@pytest.mark.usefixtures("users_programs")
def test_where_packed_states_wait_changes_no_number(store, tmp_path):
    written = []
    for cache in ("device", "host", "none"):
        config = TrainConfig(
            store=store,
            out=tmp_path / cache,
            pooler=PoolerConfig(pooler="glot", hidden_dim=8),
            epochs=2,
            cache=cache,
        )
        train(config, quiet=True)
        written.append((tmp_path / cache / "metrics.jsonl").read_bytes())
    assert written[0] == written[1] == written[2]


def test_other_states_have_no_packed_form(tmp_path):
    config = make_case(tmp_path, {"train": 4})
    run(dataclasses.replace(config, storage_dtype="int8"))
    reader = HiddenStore(config.out)["train"]
    assert not reader.is_packed
    with pytest.raises(UsageError, match="packed states must be stored as int4; got .* with int8"):
        reader.read_packed()

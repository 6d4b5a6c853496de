"""Writing shards: what goes in comes out, and nothing half-written stays."""

import errno
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glot_jax.errors import UsageError
from glot_jax.store.writer import ShardCounts, ShardWriter


def write(folder, lengths, states, dtype="float32", index=0):
    tokens = int(sum(lengths))
    ids = np.arange(tokens, dtype=np.int32)
    with ShardWriter(
        folder, index, np.array(lengths, np.int32), ids, dim=states.shape[1], dtypes={1: dtype}
    ) as shard:
        shard.put(1, 0, states)
        return shard.finish(ShardCounts(truncated=0, empty=0, max_abs=1.0))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any),
    st.randoms(use_true_random=False),
)
def test_states_may_be_put_in_any_order(tmp_path_factory, lengths, random):
    folder = tmp_path_factory.mktemp("split")
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    states = np.random.default_rng(0).normal(size=(offsets[-1], 3)).astype(np.float32)
    texts = [text for text, length in enumerate(lengths) if length]
    random.shuffle(texts)
    with ShardWriter(
        folder,
        0,
        np.array(lengths, np.int32),
        np.arange(offsets[-1], dtype=np.int32),
        dim=3,
        dtypes={4: "float32"},
    ) as shard:
        for text in texts:
            shard.put(4, int(offsets[text]), states[offsets[text] : offsets[text + 1]])
        record = shard.finish(ShardCounts(truncated=0, empty=0, max_abs=1.0))
    np.testing.assert_array_equal(np.load(folder / "shard-00000/hidden-L4-00000.npy"), states)
    assert record.tokens == len(states)


def test_a_shard_is_absent_until_it_is_finished(tmp_path):
    with ShardWriter(
        tmp_path,
        0,
        np.array([2], np.int32),
        np.array([4, 5], np.int32),
        dim=3,
        dtypes={1: "float32"},
    ) as shard:
        shard.put(1, 0, np.ones((2, 3), np.float32))
        (unfinished,) = tmp_path.iterdir()
        assert re.fullmatch(r"\.tmp-[0-9a-f]{8}-shard-00000", unfinished.name)
        shard.finish(ShardCounts(truncated=0, empty=0, max_abs=1.0))
        assert [path.name for path in tmp_path.iterdir()] == ["shard-00000"]


def test_an_interrupted_shard_leaves_nothing(tmp_path):
    writer = ShardWriter(
        tmp_path,
        0,
        np.array([2], np.int32),
        np.array([4, 5], np.int32),
        dim=3,
        dtypes={1: "float32"},
    )
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_shard_and_shortfall(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "put", full)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 10})())
    with pytest.raises(UsageError, match=r"shard-00000, 24 bytes; got 10 bytes free, 14 too few"):
        write(tmp_path, [2], np.ones((2, 3), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_not_written_into_a_linked_split(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "train").symlink_to(tmp_path / "elsewhere")
    lengths = np.ones(2, np.int32)
    with (
        pytest.raises(
            UsageError,
            match="must not be written through symbolic links; got .*train. .*dvc unprotect",
        ),
        ShardWriter(tmp_path / "train", 0, lengths, lengths, dim=2, dtypes={0: "float16"}),
    ):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


def open_writer(folder, value):
    shard = ShardWriter(
        folder,
        0,
        np.array([2], np.int32),
        np.array([4, 5], np.int32),
        dim=3,
        dtypes={1: "float32"},
    )
    shard.open()
    shard.put(1, 0, np.full((2, 3), value, np.float32))
    return shard


def test_two_writers_of_one_shard_never_mix_their_files(tmp_path):
    counts = ShardCounts(truncated=0, empty=0, max_abs=1.0)
    first, second = open_writer(tmp_path, 1), open_writer(tmp_path, 1)
    other = open_writer(tmp_path, 2)
    record = first.finish(counts)
    before = {path: path.read_bytes() for path in tmp_path.glob("shard-00000/*")}
    # The same bytes: done, as if it had been alone.
    assert second.finish(counts) == record
    with pytest.raises(UsageError, match="two writers of a shard must write the same bytes"):
        other.finish(counts)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000"]
    assert {path: path.read_bytes() for path in tmp_path.glob("shard-00000/*")} == before

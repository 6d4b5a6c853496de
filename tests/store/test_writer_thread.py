"""Shards written beside the computation."""

import functools
import os
import threading

import numpy as np

from glot_jax import disk
from glot_jax.store.writer import ShardCounts, ShardWriter
from glot_jax.store.writer_thread import WriterThread


def test_only_so_many_shards_wait_to_be_sealed(tmp_path, monkeypatch):
    """A slow disk: every shard that waits for its fsync keeps its files open."""
    going, released = [], threading.Event()
    monkeypatch.setattr(disk, "sync", lambda file: released.wait(10) or os.fsync(file))

    def make_shard(index):
        return ShardWriter(
            tmp_path / "train",
            index,
            np.array([1], np.int32),
            np.array([7], np.int32),
            dim=2,
            dtypes={0: "float32"},
        )

    def work():
        with WriterThread(unsealed=3) as thread:
            for index in range(6):
                shard = make_shard(index)
                thread.begin(shard)
                going.append(index)
                thread.put(functools.partial(shard.put, 0, 0, np.ones((1, 2), np.float32)), 8)
                thread.finish(shard, ShardCounts(truncated=0, empty=0, max_abs=1.0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(1)
    assert going == [0, 1, 2]
    released.set()
    thread.join()
    assert len(list((tmp_path / "train").glob("shard-*"))) == 6

"""A store at a URL, read: the same arrays, fetched once, whole and hashed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.object_stores import bucket, own_cache, url
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores import copy
from glot_jax.store import HiddenStore, integrity

__all__ = ["bucket", "own_cache"]


@pytest.fixture
def pair(tmp_path, bucket, own_cache):
    """(a store in a folder, its copy at a URL)."""
    store = make_store(tmp_path / "store", layers=(0, 2), shards=3)
    copy(store, url(f"{bucket}/store"))
    assert not (own_cache / "stores").exists()
    return store, url(f"{bucket}/store")


@pytest.mark.parametrize("ahead", [False, True])
def test_the_arrays_are_those_of_the_folder(pair, ahead):
    folder, there = pair
    local = HiddenStore(folder, layers=(0, 2))
    remote = HiddenStore(str(there), layers=(0, 2))
    assert remote.path == there
    assert remote.content == local.content
    if ahead:
        remote.read_ahead(remote.splits)
    for name in local:
        np.testing.assert_array_equal(local[name].read_all(), remote[name].read_all())
        np.testing.assert_array_equal(local[name].labels, remote[name].labels)
        for row in range(len(local[name])):
            here, there_too = local[name][row], remote[name][row]
            np.testing.assert_array_equal(here.hidden, there_too.hidden)
            assert here.label == there_too.label
    assert "MB fetched into" in remote.describe_fetched()


def test_only_what_is_read_is_fetched_and_once(pair, monkeypatch):
    _, there = pair
    asked = []
    original = Objects.stream

    def stream(self, name, size=None):
        asked.append(name)
        yield from original(self, name, size)

    monkeypatch.setattr(Objects, "stream", stream)
    store = HiddenStore(there, layer=2)
    assert asked == []
    store["validation"].read_all()
    assert asked
    assert not [name for name in asked if "L0" in name or name.startswith("train")]
    before = len(asked)
    HiddenStore(there, layer=2)["validation"].read_all()
    assert len(asked) == before


def test_a_flipped_byte_there_is_refused(pair):
    _, there = pair
    name = "validation/shard-00000/hidden-L2-00000.npy"
    present = Objects(there).read(name)
    assert present is not None
    Objects(there).put(name, present.content[:-1] + bytes([present.content[-1] ^ 1]))
    with pytest.raises(UsageError, match=f"{there}/{name}, whose content differs"):
        HiddenStore(there, layer=2, trust=True)["validation"].read_all()


def test_a_byte_that_the_cache_has_flipped_is_fetched_again(pair, own_cache, monkeypatch):
    folder, there = pair
    expected = HiddenStore(folder)["validation"].read_all()
    HiddenStore(there)["validation"].read_all()
    (path,) = own_cache.rglob("validation/shard-00000/hidden-L2-00000.npy")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    # As another process would see it.
    monkeypatch.setattr(integrity, "_checked", set())
    np.testing.assert_array_equal(HiddenStore(there)["validation"].read_all(), expected)
    assert path.read_bytes() == sound


def test_a_manifest_of_somebody_else(pair, bucket):
    _, there = pair
    objects = Objects(there)
    present = objects.read("manifest.json")
    assert present is not None
    values = json.loads(present.content)
    objects.put("manifest.json", json.dumps({**values, "content": "../../x"}).encode())
    with pytest.raises(UsageError, match="must agree with its own content hash"):
        HiddenStore(there)
    objects.put("manifest.json", present.content[:-9])
    with pytest.raises(UsageError, match="manifest.json must be a whole JSON file; got s3://"):
        HiddenStore(there)
    objects.delete(["manifest.json"])
    with pytest.raises(UsageError, match="which has no manifest.json yet"):
        HiddenStore(there)
    with pytest.raises(UsageError, match=f"{bucket}/none, where nothing is"):
        HiddenStore(f"{bucket}/none")

"""Stores copied to a URL, from one, and between two: the same files, or none."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from support.extraction_case import tree
from support.object_stores import Dying, Killed, contents, url
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores import copy, verify
from glot_jax.store import verify as verify_folder


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", layers=(0, 2), shards=3)


def test_there_and_back(store, bucket, tmp_path, own_cache):
    there, again = url(f"{bucket}/a/store"), url(f"{bucket}/b/store")
    copy(str(store), str(there))
    copy(there, again)
    copy(again, tmp_path / "back")
    assert contents(there) == contents(again) == tree(tmp_path / "back") == tree(store)
    assert verify(str(there)) == verify(again) == verify_folder(tmp_path / "back") == []
    assert list((own_cache / "scratch").iterdir()) == []
    assert not (tmp_path / "back.lock").exists()
    # Once more: nothing to do.
    copy(store, there)
    copy(there, tmp_path / "back")


def test_a_copy_goes_on_where_it_was_stopped(store, bucket, tmp_path, monkeypatch):
    there = url(f"{bucket}/store")
    for number in (4, 12, 20):
        with monkeypatch.context() as patch:
            Dying(patch, number)
            with pytest.raises(Killed):
                copy(store, there)
    sent = []
    original = Objects.put_file

    def put_file(self, name, path):
        sent.append(name)
        original(self, name, path)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put_file", put_file)
        copy(store, there)
    assert contents(there) == tree(store)
    assert len(sent) < len(tree(store)) / 2
    # Back, and stopped by a file that does not come.
    back = tmp_path / "back"
    gone = Objects(there).read("validation/labels.npy")
    assert gone is not None
    Objects(there).delete(["validation/labels.npy"])
    with pytest.raises(UsageError, match="labels.npy, which is missing"):
        copy(there, back)
    assert not (back / "manifest.json").exists()
    Objects(there).put("validation/labels.npy", gone.content)
    copy(there, back)
    assert tree(back) == tree(store)


def test_damaged_bytes_are_not_copied(store, bucket, tmp_path):
    there = url(f"{bucket}/store")
    path = store / "train/shard-00000/hidden-L2-00000.npy"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(UsageError, match="hidden-L2-00000.npy, whose content differs"):
        copy(store, there)
    assert "manifest.json" not in Objects(there).sizes()
    path.write_bytes(sound)
    copy(store, there)
    Objects(there).put("train/shard-00000/hidden-L2-00000.npy", b"x" * len(sound))
    for target in (tmp_path / "back", url(f"{bucket}/other")):
        with pytest.raises(UsageError, match="hidden-L2-00000.npy, whose content differs"):
            copy(there, target)
    assert not (tmp_path / "back/manifest.json").exists()
    assert Objects(url(f"{bucket}/other")).read("manifest.json") is None


def test_a_copy_overwrites_nothing(store, bucket, tmp_path, monkeypatch):
    there = url(f"{bucket}/store")
    other = make_store(tmp_path / "other", layers=(0, 2), shards=2)
    copy(other, there)
    with pytest.raises(UsageError, match="must go where no other store is"):
        copy(store, there)
    with pytest.raises(UsageError, match="must go where no other store is"):
        copy(there, store)
    Objects(url(f"{bucket}/mine")).put("notes.txt", b"")
    with pytest.raises(UsageError, match="must go where nothing else lies; got notes.txt"):
        copy(store, url(f"{bucket}/mine"))
    with pytest.raises(UsageError, match="glot store copy is for stores at URLs"):
        copy(store, tmp_path / "new")
    with pytest.raises(UsageError, match="where nothing is"):
        copy(url(f"{bucket}/none"), tmp_path / "new")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(UsageError, match="must have room"):
        copy(there, tmp_path / "new")

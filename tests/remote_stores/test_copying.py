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
from glot_jax.store import read_manifest
from glot_jax.store import verify as verify_folder
from glot_jax.store.layout import lock_folder


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


@pytest.fixture
def twin(tmp_path):
    """A store of other states: its files have the names and sizes of `store`'s."""
    return make_store(tmp_path / "twin", layers=(0, 2), shards=3, scale=2.0)


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("is_local", [True, False])
def test_a_copy_is_not_continued_with_another_store(
    store, twin, bucket, monkeypatch, is_local, noted
):
    there = url(f"{bucket}/store")
    source = store if is_local else url(f"{bucket}/source")
    other = twin if is_local else url(f"{bucket}/other")
    if not is_local:
        copy(store, source)
        copy(twin, other)
    with monkeypatch.context() as patch:
        Dying(patch, 12)
        with pytest.raises(Killed):
            copy(source, there)
    notes = Objects(url(f"{bucket}/store.lock"))
    if not noted:
        # As an earlier version has begun it.
        notes.delete(["copy.json"])
    before = contents(there)
    assert before
    message = f"a copy of .* was begun, instead of {read_manifest(twin).content[:12]}"
    with pytest.raises(UsageError, match=message if noted else "whose content differs"):
        copy(other, there)
    assert contents(there) == before
    copy(source, there)
    assert contents(there) == tree(store)
    assert notes.sizes() == {}


@pytest.mark.parametrize("noted", [True, False])
def test_a_copy_in_a_folder_is_not_continued_with_another_store(
    store, twin, bucket, tmp_path, noted
):
    source, other, back = url(f"{bucket}/source"), url(f"{bucket}/other"), tmp_path / "back"
    copy(store, source)
    copy(twin, other)
    name = "validation/labels.npy"
    last = Objects(source).read(name)
    assert last is not None
    Objects(source).delete([name])
    with pytest.raises(UsageError, match="labels.npy, which is missing"):
        copy(source, back)
    Objects(source).put(name, last.content)
    (back / "train/shard-00000/.tmp-0a1b-lengths.npy").write_bytes(b"half")
    note = lock_folder(back) / "copy.json"
    if not noted:
        note.unlink()
    before = tree(back)
    with pytest.raises(UsageError, match="was begun, instead" if noted else "content differs"):
        copy(other, back)
    assert tree(back) == before
    copy(source, back)
    assert tree(back) == tree(store)
    assert not lock_folder(back).exists()


def test_what_another_copy_left_on_its_way_is_not_sent(store, twin, bucket, own_cache, monkeypatch):
    source, other, there = (url(f"{bucket}/{name}") for name in ("source", "other", "there"))
    copy(store, source)
    copy(twin, other)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put_file", killed)
        with pytest.raises(Killed):
            copy(source, there)
    # Files of it wait in the scratch folder, and nothing is there yet.
    assert list(own_cache.rglob("*.npy"))
    copy(other, there)
    assert contents(there) == tree(twin)


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

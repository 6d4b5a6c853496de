"""Verifying: every damaged, missing or foreign file is named."""

import errno
from pathlib import Path

import pytest

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore, verify

STATES = "train/shard-00001/hidden-L2-00001.npy"


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize("damage", [flip, shorten, Path.unlink])
@pytest.mark.parametrize("name", [STATES, "train/shard-00001/lengths.npy", "train/labels.npy"])
def test_a_damaged_file_is_found_by_verify_and_refused_by_path(store, name, damage):
    HiddenStore(store)["train"].read_all()
    damage(store / name)
    assert verify(store) == [str(store / name)]
    split = HiddenStore(store)["train"]
    with pytest.raises(UsageError, match=name):
        _ = (split.labels, split.read_all(), split.text_lengths)


def test_verify_names_missing_and_foreign_files_and_records(store):
    assert verify(store) == []
    (store / "notes.txt").write_text("mine")
    (store / "test").mkdir()
    (store / "train/roles.npy").unlink()
    flip(store / "train/shard-00002/record.json")
    expected = ["notes.txt", "test", "train/roles.npy", "train/shard-00002/record.json"]
    assert verify(store) == sorted(str(store / name) for name in expected)


def test_a_moved_store_is_as_good_as_the_original(store, tmp_path):
    content = HiddenStore(store).content
    store.rename(tmp_path / "copy")
    assert HiddenStore(tmp_path / "copy").content == content
    assert verify(tmp_path / "copy") == []


@pytest.mark.parametrize(
    "name", [STATES, "train/labels.npy", "train/shard-00000/record.json", "manifest.json"]
)
def test_a_file_that_cannot_be_read_is_listed_with_the_others(store, monkeypatch, name):
    """The commonest form of rot: the disk answers with an error, not with other bits."""
    failing, flipped = store / name, store / "train/row_texts.npy"
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"x")
    original = Path.read_bytes, Path.read_text, open

    def of(function):
        def reading(path, *arguments, **options):
            if str(path) == str(failing):
                raise OSError(errno.EIO, "Input/output error")
            return function(path, *arguments, **options)

        return reading

    monkeypatch.setattr(Path, "read_bytes", of(original[0]))
    monkeypatch.setattr(Path, "read_text", of(original[1]))
    monkeypatch.setattr("builtins.open", of(original[2]))
    if name == "manifest.json":
        assert verify(store) == [str(failing)]
        return
    assert verify(store) == sorted([str(failing), str(flipped)])
    if not name.endswith("record.json"):
        opened = HiddenStore(store, layer=2)["train"]
        with pytest.raises(
            UsageError, match=r"must be readable; got \[Errno 5\].* at .*" + Path(name).name
        ):
            _ = opened.labels, opened.read_all()

"""`glot store verify URL`: every byte is read, and every bad file is named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support.object_stores import url
from support.synthetic_stores import make_store

from glot_jax.cli import main
from glot_jax.errors import UsageError
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores import copy, verify
from glot_jax.remote_stores.verifying import header_of
from glot_jax.store import describe
from glot_jax.store import verify as verify_folder
from glot_jax.store.arrays import npy_bytes


@pytest.fixture
def there(tmp_path, bucket, own_cache):
    store = make_store(tmp_path / "store", layers=(0, 2), shards=2)
    copy(store, url(f"{bucket}/store"))
    shutil.rmtree(own_cache)
    return url(f"{bucket}/store")


def test_what_is_bad_is_named_as_in_a_folder(there, tmp_path, own_cache):
    objects = Objects(there)
    changes = {
        "train/shard-00000/hidden-L0-00000.npy": b"short",
        "train/shard-00001/record.json": b"{}",
        "train/labels.npy": b"",
        "train/other.txt": b"somebody's",
    }
    state = objects.read("validation/shard-00000/hidden-L2-00000.npy")
    assert state is not None
    flipped = state.content[:-1] + bytes([state.content[-1] ^ 1])
    changes["validation/shard-00000/hidden-L2-00000.npy"] = flipped
    store = tmp_path / "store"
    for name, content in changes.items():
        objects.put(name, content)
        (store / name).write_bytes(content)
    objects.delete(["validation/shard-00000/lengths.npy"])
    (store / "validation/shard-00000/lengths.npy").unlink()
    expected = [str(there / path.removeprefix(f"{store}/")) for path in verify_folder(store)]
    assert verify(there) == expected
    assert len(expected) == 6
    # Nothing is kept.
    assert not own_cache.exists()


@pytest.mark.parametrize("dtype", ["<f2", "<u2", "<i4", "|i1"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (0, 7)])
def test_a_header_says_what_an_array_is(dtype, shape):
    array = np.zeros(shape, dtype)
    assert header_of(npy_bytes(array)) == (array.dtype, shape)


def test_an_array_in_another_order_is_none_of_ours():
    assert header_of(npy_bytes(np.asfortranarray(np.zeros((4, 5))))) is None
    assert header_of(b"\x93NUMPY\x02\x00") is None
    assert header_of(b"other") is None


def test_a_store_that_is_none(there, bucket):
    with pytest.raises(UsageError, match="s3://bucket/none, where nothing is"):
        verify(url(f"{bucket}/none"))
    Objects(there).put("manifest.json", b"{")
    assert verify(there) == [f"{there}/manifest.json"]
    Objects(there).delete(["manifest.json"])
    with pytest.raises(UsageError, match="which has no manifest.json yet"):
        verify(there)


def code(*words: object) -> object:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_the_commands(there, tmp_path, capsys):
    assert code("store", "verify", there) == 0
    assert code("store", "info", there) == 0
    card = json.loads(capsys.readouterr().out)
    assert card == {**describe(tmp_path / "store"), "path": str(there)}
    assert code("store", "copy", there, tmp_path / "back") == 0
    assert verify_folder(tmp_path / "back") == []
    assert code("store", "copy", there) == 2
    assert code("store", "verify", there, "s3://bucket/x") == 2
    assert code("store", "finish", there) == 0
    Objects(there).put("train/other.txt", b"")
    assert code("store", "verify", there) == 1
    assert capsys.readouterr().out == f"{there}/train/other.txt\n"
    assert code("store", "info", "s3://CANARY@bucket/x") == 2
    assert "CANARY" not in capsys.readouterr().err

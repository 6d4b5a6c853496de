"""Reading and writing shards: what goes in comes out, and nothing damaged comes out."""

import errno
import functools
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic_stores import PAIRS, SCORES, make_store

from glot_jax import disk
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256, write_bytes
from glot_jax.store import HiddenStore, describe, verify
from glot_jax.store.lock import StoreLock, read_begun
from glot_jax.store.manifest import lock_folder
from glot_jax.store.recipe import Recipe
from glot_jax.store.writer import ShardWriter, WriterThread

RECIPE = Recipe.partial(dim=3)

STATES = "train/shard-00001/hidden-L2-00001.npy"


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "store", layers=(0, 2), shards=3)


# --------------------------------------------------------------------------------------------------
# Reading


def test_a_row_has_states_token_ids_and_label(store):
    split = HiddenStore(store)["train"]
    row = split[7]
    assert row.hidden.shape == (split.text_lengths[7], 8)
    assert row.hidden.dtype == np.float16
    assert row.token_ids.shape == row.hidden.shape[:1]
    assert row.token_ids.dtype == np.int32
    assert row.label == 1
    assert isinstance(row.label, int)


def test_rows_texts_and_read_all_agree(store):
    split = HiddenStore(store)["train"]
    everything = split.read_all()
    assert everything.shape == (split.tokens, 8)
    assert split.text_offsets[-1] == split.tokens == split.text_lengths.sum()
    for text in range(len(split.text_lengths)):
        span = slice(split.text_offsets[text], split.text_offsets[text + 1])
        np.testing.assert_array_equal(split.states(text), everything[span])
        np.testing.assert_array_equal(split[text].hidden, everything[span])


def test_rows_count_from_the_end_and_stop_there(store):
    split = HiddenStore(store)["validation"]
    np.testing.assert_array_equal(split[-1].hidden, split[11].hidden)
    for row in (12, -13):
        with pytest.raises(IndexError, match="validation, which has 12 rows"):
            split[row]
    for text in (12, -1):
        with pytest.raises(IndexError, match="12 texts"):
            split.states(text)


def test_a_pair_is_read_through_texts(tmp_path):
    split = HiddenStore(make_store(tmp_path / "pairs", PAIRS))["train"]
    row = split[3]
    assert split.texts_per_row == len(row.texts) == 2
    assert split.roles[:4].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(row.texts[1][0], split.states(7))
    with pytest.raises(UsageError, match=r"row of 2\. Use row\.texts"):
        _ = row.hidden
    with pytest.raises(UsageError, match=r"row of 2\. Use row\.texts"):
        _ = row.token_ids


def test_regression_labels_are_floats(tmp_path):
    split = HiddenStore(make_store(tmp_path / "scores", SCORES))["train"]
    assert split.labels.dtype == np.float32
    assert isinstance(split[0].label, float)


def test_layers_are_chosen_by_index_and_from_the_end(store):
    last, first = HiddenStore(store), HiddenStore(store, layer=0)
    assert (last.layers, first.layers, last.stored_layers) == ((2,), (0,), (0, 2))
    np.testing.assert_array_equal(
        last["train"].states(0), HiddenStore(store, layer=-1)["train"].states(0)
    )
    np.testing.assert_array_equal(
        first["train"].states(0), HiddenStore(store, layer=-3)["train"].states(0)
    )
    assert np.any(last["train"].states(0) != first["train"].states(0))
    both = HiddenStore(store, layers=(2, 0))
    assert both.layers == (2, 0)
    length = both["train"].text_lengths[5]
    assert both["train"][5].hidden.shape == (length, 2, 8)
    np.testing.assert_array_equal(both["train"].states(5)[:, 1], first["train"].states(5))
    np.testing.assert_array_equal(both["train"].read_all()[:, 0], last["train"].read_all())
    assert HiddenStore(store, layers=[2])["train"].read_all().shape[1:] == (1, 8)


@pytest.mark.parametrize("choice", [{"layer": 1}, {"layer": -4}, {"layer": 3}, {"layers": (0, 1)}])
def test_a_layer_that_is_not_stored_is_refused_with_those_that_are(store, choice):
    with pytest.raises(UsageError, match=r"Stored: 0, 2\."):
        HiddenStore(store, **choice)


def test_a_store_is_opened_with_layer_or_layers(store):
    with pytest.raises(UsageError, match="Give one of them"):
        HiddenStore(store, layer=0, layers=(2,))
    with pytest.raises(UsageError, match="at least one"):
        HiddenStore(store, layers=())


def test_splits_are_listed_and_unknown_ones_refused(store):
    opened = HiddenStore(store)
    assert list(opened) == list(opened.splits) == ["train", "validation"]
    assert "train" in opened
    assert "test" not in opened
    with pytest.raises(UsageError, match=r"'test'\. Known: train, validation"):
        opened["test"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_storage_dtype_comes_back(tmp_path, dtype):
    split = HiddenStore(make_store(tmp_path / dtype, dtype=dtype))["train"]
    expected = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}[dtype]
    assert split.dtype == split[0].hidden.dtype == split.read_all().dtype == np.dtype(expected)
    raw = np.load(tmp_path / dtype / "train/shard-00000/hidden-L2-00000.npy", allow_pickle=False)
    assert raw.dtype == (np.uint16 if dtype == "bfloat16" else expected)
    assert 0.1 < np.abs(split.read_all().astype(np.float32)).max() < 100


def test_an_empty_text_has_no_states(tmp_path):
    split = HiddenStore(make_store(tmp_path / "store", empty_rows=(0, 5)))["train"]
    assert split[0].hidden.shape == (0, 8)
    assert split[0].token_ids.shape == (0,)
    assert split.text_lengths[5] == 0


def test_states_are_read_only_views(store):
    with pytest.raises(ValueError, match="read-only"):
        HiddenStore(store)["train"].states(0)[:] = 0


# --------------------------------------------------------------------------------------------------
# Damage


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


def test_a_file_is_hashed_once_by_a_process_and_not_at_all_when_trusted(store, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "glot_jax.store.arrays.file_sha256", lambda path: hashed.append(path) or file_sha256(path)
    )
    HiddenStore(store, trust=True)["train"].read_all()
    assert hashed == []
    HiddenStore(store)["train"].read_all()
    first = len(hashed)
    assert first == 3
    HiddenStore(store)["train"].read_all()
    assert len(hashed) == first


def test_trust_still_checks_shapes(store):
    split = HiddenStore(store, trust=True)["train"]
    array = np.load(store / STATES)
    np.save(store / STATES, array.reshape(array.shape[::-1]))
    with pytest.raises(UsageError, match=STATES):
        split.read_all()


def test_pickled_objects_are_never_loaded(store):
    split = HiddenStore(store, trust=True)["train"]
    size = (store / STATES).stat().st_size
    np.save(store / STATES, np.array([{}] * 3, dtype=object), allow_pickle=True)
    with open(store / STATES, "ab") as file:
        file.write(b"\0" * (size - (store / STATES).stat().st_size))
    with pytest.raises(UsageError, match=STATES):
        split.read_all()


def test_a_moved_store_is_as_good_as_the_original(store, tmp_path):
    content = HiddenStore(store).content
    store.rename(tmp_path / "copy")
    assert HiddenStore(tmp_path / "copy").content == content
    assert verify(tmp_path / "copy") == []


def test_describe_counts(store):
    found = describe(store)
    split = HiddenStore(store)["train"]
    assert found["splits"]["train"] == {
        "rows": 40,
        "texts": 40,
        "tokens": split.tokens,
        "truncated": 0,
        "empty": 0,
        "shards": 3,
        "labels": True,
        "dtypes": ["float16"],
        "max_abs": found["splits"]["train"]["max_abs"],
        "bytes": found["splits"]["train"]["bytes"],
    }
    on_disk = sum(path.stat().st_size for path in store.rglob("*.npy"))
    assert found["bytes"] == on_disk
    assert found["rows"] == 52
    json.dumps(found)


# --------------------------------------------------------------------------------------------------
# Writing


def write(folder, lengths, states, dtype="float32", index=0):
    tokens = int(sum(lengths))
    ids = np.arange(tokens, dtype=np.int32)
    with ShardWriter(
        folder, index, np.array(lengths, np.int32), ids, dim=states.shape[1], dtypes={1: dtype}
    ) as shard:
        shard.put(1, 0, states)
        return shard.finish(truncated=0, empty=0, max_abs=1.0)


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
        record = shard.finish(truncated=0, empty=0, max_abs=1.0)
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
        assert [path.name for path in tmp_path.iterdir()] == [".tmp-shard-00000"]
        shard.finish(truncated=0, empty=0, max_abs=1.0)
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
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(UsageError, match=r"shard-00000, 24 bytes; got 10 bytes free, 14 too few"):
        write(tmp_path, [2], np.ones((2, 3), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_a_small_file_is_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="the disk must have room"):
        write_bytes(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------
# One writer


def write_lock(store, host, pid):
    folder = lock_folder(store)
    folder.mkdir(exist_ok=True)
    (folder / "lock").write_text(json.dumps({"host": host, "pid": pid}))


def dead_pid():
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    return process.pid


def test_a_lock_leaves_nothing_behind(tmp_path):
    store = tmp_path / "store"
    with StoreLock(store) as lock:
        assert json.loads((tmp_path / "store.lock/lock").read_text()) == {
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        lock.begin(RECIPE)
        assert lock.begun_with() == RECIPE
        assert read_begun(store) == RECIPE
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_of_an_unfinished_store_stays_until_it_is_finished(tmp_path):
    store = tmp_path / "store"
    with StoreLock(store) as lock:
        lock.begin(RECIPE)
        (store / "train").mkdir(parents=True)
    assert [path.name for path in lock_folder(store).iterdir()] == ["recipe.json"]
    with StoreLock(store) as lock:
        assert lock.begun_with() == RECIPE
        lock.finished()
    assert not lock_folder(store).exists()


def test_a_second_writer_is_refused_by_host_and_process(tmp_path):
    store = tmp_path / "store"
    with (
        StoreLock(store),
        pytest.raises(UsageError, match=f"process {os.getpid()} on host {socket.gethostname()}"),
        StoreLock(store),
    ):
        pass
    write_lock(store, "elsewhere", 1)
    with pytest.raises(UsageError, match="process 1 on host elsewhere"), StoreLock(store):
        pass
    assert json.loads((lock_folder(store) / "lock").read_text())["host"] == "elsewhere"


def test_a_lock_is_held_by_the_open_file_and_not_by_its_name(tmp_path):
    """Two processes that find the same stale lock: the slower one meets the lock of the faster one,
    under the same name.
    """
    store = tmp_path / "store"
    write_lock(store, socket.gethostname(), dead_pid())
    late = os.open(lock_folder(store) / "lock", os.O_RDWR)  # the slower one has looked, no more
    with StoreLock(store) as first:
        first.begin(RECIPE)
        with pytest.raises(UsageError, match=f"process {os.getpid()} on host"), StoreLock(store):
            pass
        assert first.begun_with() == RECIPE
    os.close(late)
    assert list(tmp_path.iterdir()) == []


def test_without_locks_of_the_system_nobody_takes_over(tmp_path, monkeypatch):
    def unsupported(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    store = tmp_path / "store"
    with (
        StoreLock(store) as first,
        pytest.raises(UsageError, match=rf"process {os.getpid()} on host .* delete .*lock"),
        StoreLock(store),
    ):
        pass
    first.finished()
    write_lock(store, socket.gethostname(), dead_pid())
    with pytest.raises(UsageError, match="if that process is gone, delete"), StoreLock(store):
        pass


@pytest.mark.parametrize("who", ["dead", "own", "unwritten"])
def test_a_stale_lock_is_taken_over_with_a_notice(tmp_path, who):
    store, notices = tmp_path / "store", []
    write_lock(
        store, socket.gethostname(), {"dead": dead_pid, "own": os.getpid, "unwritten": int}[who]()
    )
    if who == "unwritten":
        (lock_folder(store) / "lock").write_text("")
    with StoreLock(store, notices.append):
        assert json.loads((lock_folder(store) / "lock").read_text())["pid"] == os.getpid()
    assert "no longer runs" in notices[0]
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------
# Files that cannot be read


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
            UsageError, match=r"can be read; got \[Errno 5\].* at .*" + Path(name).name
        ):
            _ = opened.labels, opened.read_all()


def test_a_limit_of_open_files_is_not_taken_for_damage(store, monkeypatch):
    def exhausted(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "load", exhausted)
    with pytest.raises(UsageError, match="Too many open files.*ulimit -n"):
        HiddenStore(store)["train"].read_all()


def test_a_store_of_more_shards_than_descriptors_are_allowed(tmp_path):
    """A mapped file keeps a descriptor: the limit that a shell gives is raised to what the system
    allows.
    """
    store = make_store(tmp_path / "store", rows={"train": 80}, shards=40)
    script = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))\nfrom glot_jax.store import"
        f" HiddenStore; split = HiddenStore({str(store)!r})['train'];"
        " print(split.read_all().shape[0] == split.tokens)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
        == "True\n"
    )


def test_a_process_does_not_wait_for_hashes_that_nobody_reads(tmp_path):
    script = (
        "import time, glot_jax.store.arrays as files\n"
        "files.file_sha256 = lambda path: time.sleep(60)\n"
        f"path = __import__('pathlib').Path({str(tmp_path / 'file')!r}); path.write_bytes(b'x')\n"
        "files.hash_ahead(path, {'sha256': '', 'bytes': 1})"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"schema_version": ' + "1" * 5000 + "}", "\udcff"]
)
def test_json_that_python_cannot_take_is_a_damaged_manifest(store, content):
    (store / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert verify(store) == [str(store / "manifest.json")]
    with pytest.raises(UsageError, match="manifest.json"):
        HiddenStore(store)


def test_only_so_many_shards_wait_to_be_sealed(tmp_path, monkeypatch):
    """A slow disk: every shard that waits for its fsync keeps its files open."""
    going, released = [], threading.Event()
    monkeypatch.setattr(disk, "sync", lambda file: released.wait(10) or os.fsync(file))

    def shard(index):
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
                one = shard(index)
                thread.begin(one)
                going.append(index)
                thread.put(functools.partial(one.put, 0, 0, np.ones((1, 2), np.float32)), 8)
                thread.finish(one, truncated=0, empty=0, max_abs=1.0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(1)
    assert going == [0, 1, 2]
    released.set()
    thread.join()
    assert len(list((tmp_path / "train").glob("shard-*"))) == 6

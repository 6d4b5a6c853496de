"""Files appear whole or not at all: whatever the disk does, the old one or the new one is there."""

import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.faulty_disk import FaultyDisk, Killed

from glot_jax import disk, files
from glot_jax.errors import UsageError
from glot_jax.files import (
    RUN_STYLE,
    STORE_STYLE,
    TABLE_STYLE,
    TEMPORARY,
    explain_write_error,
    file_sha256,
    is_new_folder,
    json_bytes,
    locked,
    make_folders,
    read_json,
    require_empty,
    whole_file,
    whole_folder,
    write_bytes,
    write_json,
    write_npz,
)

OLD = {"trial": 1}
NEW = {"trial": 2, "score": 0.5}


def write_whole_file(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(json_bytes(NEW))


def write_whole_folder(path: Path) -> None:
    with whole_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "values.json").write_bytes(json_bytes(NEW))


def run_on(faulty: FaultyDisk, action: Callable[[], None]) -> str | None:
    """What the user reads after a failure; None after a kill, or where nothing failed."""
    try:
        action()
    except Killed:
        assert faulty.fired
    except UsageError as error:
        return str(error)
    return None


def visible(folder: Path) -> dict[str, bytes]:
    """Content by relative name, without what is still being written."""
    content = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file() and TEMPORARY not in name:
            content[name] = path.read_bytes()
    return content


# --------------------------------------------------------------------------------------------------
# The disk fails


@pytest.mark.parametrize("how", ["kill", "torn", "power", "error"])
@pytest.mark.parametrize(
    "write", [lambda path: write_json(path, NEW), write_whole_file], ids=["json", "library"]
)
def test_a_failure_inside_a_write_leaves_the_old_file_or_the_new_one(
    tmp_path, monkeypatch, how, write
):
    path = tmp_path / "settings.json"
    outcomes = []
    at = 0
    while True:
        write_json(path, OLD)
        with FaultyDisk(monkeypatch, at, how) as faulty:
            message = run_on(faulty, lambda: write(path))
        assert message is None or (str(path) in message and TEMPORARY not in message)
        if not faulty.fired:
            break
        outcomes.append(read_json(path))
        assert outcomes[-1] in (OLD, NEW)
        at += 1
    assert len(outcomes) >= 4
    assert outcomes[0] == OLD
    assert read_json(path) == NEW


@pytest.mark.parametrize("how", ["kill", "torn", "power", "error"])
def test_a_failure_inside_a_folder_leaves_nothing_or_the_whole_of_it(tmp_path, monkeypatch, how):
    seen = set()
    out = tmp_path
    for at in range(100):
        out = tmp_path / str(at) / "export"
        with FaultyDisk(monkeypatch, at, how) as faulty:
            message = run_on(faulty, lambda out=out: write_whole_folder(out))
        assert message is None or (how == "error" and TEMPORARY not in message)
        names = tuple(visible(tmp_path / str(at))) if out.parent.is_dir() else ()
        seen.add(names)
        assert names in ((), ("export/inner/values.json",))
        if not faulty.fired:
            break
    assert seen == {(), ("export/inner/values.json",)}
    assert read_json(out / "inner" / "values.json") == NEW


def test_an_error_of_the_disk_leaves_no_temporary_file(tmp_path, monkeypatch):
    with FaultyDisk(monkeypatch, at=2, how="error"), pytest.raises(UsageError):
        write_bytes(tmp_path / "a", b"content")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_caller_leaves_no_file_and_passes_through(tmp_path):
    def stop(half: Path) -> None:
        half.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as temporary:
        stop(temporary)
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "b") as temporary:
        stop(temporary / "half")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errno.EACCES, "settings.json must be writable; got Permission denied. Choose another"),
        (errno.ENOSPC, "the disk must have room for .*settings.json, 10.* bytes; got .*too few"),
        (errno.EDQUOT, "Free some space and continue with --resume runs/a"),
    ],
)
def test_errors_of_the_disk_name_the_file_and_how_to_go_on(tmp_path, error, message):
    with pytest.raises(UsageError, match=message) as raised:
        explain_write_error(
            OSError(error, os.strerror(error), str(tmp_path / ".tmp-settings.json")),
            tmp_path / "settings.json",
            10**18,
            again="continue with --resume runs/a",
        )
    assert "shard" not in str(raised.value)
    assert TEMPORARY not in str(raised.value)


def test_other_errors_are_not_the_disks(tmp_path):
    explain_write_error(None, tmp_path)
    explain_write_error(ValueError("of somebody else"), tmp_path)


# --------------------------------------------------------------------------------------------------
# Content


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        (RUN_STYLE, b'{\n  "name": "\xc3\xa4"\n}\n'),
        (STORE_STYLE, b'{\n "name": "\\u00e4"\n}\n'),
        (TABLE_STYLE, b'{\n "name": "\\u00e4"\n}\n'),
    ],
)
def test_the_bytes_of_a_style_never_change(style, expected):
    """Equal runs and stores are equal byte for byte, between versions as well."""
    assert json_bytes({"name": "\u00e4"}, style) == expected


def test_nan_is_written_to_tables_alone(tmp_path):
    assert json_bytes([float("nan")], TABLE_STYLE) == b"[\n NaN\n]\n"
    for style in (RUN_STYLE, STORE_STYLE):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", [float("nan")], style)
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_that_is_not_utf8_comes_back(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"out": name})
    assert read_json(tmp_path / "a.json") == {"out": name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.json must be a whole JSON file"),
        (json_bytes(NEW)[:-7], "a.json must be a whole JSON file"),
        (b"\xff", "a.json must be a whole JSON file"),
        (b"[" * 100_000, "a.json must be a whole JSON file"),
        (b"1" * 5000, "a.json must be a whole JSON file"),
        (None, "a.json must exist; got .*a.json, which is missing"),
    ],
    ids=["empty", "cut", "not utf-8", "too deep", "too long", "missing"],
)
def test_a_file_that_is_not_whole_json_is_explained(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"{message}.*Make it again"):
        read_json(path, fix="Make it again.")


def test_a_folder_is_not_json(tmp_path):
    with pytest.raises(UsageError, match="must be readable; got .*: Is a directory"):
        read_json(tmp_path)


def test_arrays_are_the_bytes_that_numpy_saves(tmp_path):
    arrays = {"validation/labels": np.arange(3), "validation/rows": np.zeros((0, 2), np.int64)}
    write_npz(tmp_path / "a.npz", arrays)
    np.savez(tmp_path / "b.npz", **arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_can_be_written_where_there_is_none_only(tmp_path):
    assert write_bytes(tmp_path / "a", b"first", replace=False)
    assert not write_bytes(tmp_path / "a", b"second", replace=False)
    assert visible(tmp_path) == {"a": b"first"}
    assert write_bytes(tmp_path / "a", b"third")
    assert visible(tmp_path) == {"a": b"third"}


def test_a_folder_replaces_an_empty_one_and_no_other(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_whole_folder(out)
    with pytest.raises(UsageError, match="out must be writable; got Directory not empty"):
        write_whole_folder(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_a_link_keeps_it_and_leaves_its_target_alone(tmp_path, monkeypatch):
    (tmp_path / "target").mkdir(mode=0o700)
    synced = []
    monkeypatch.setattr(disk, "sync_folder", lambda folder: synced.append(folder.name))
    with whole_folder(tmp_path / "out") as folder:
        (folder / "link").symlink_to(tmp_path / "target")
    assert (tmp_path / "out" / "link").is_symlink()
    assert "link" not in synced


def test_folders_are_made_with_their_parents(tmp_path):
    make_folders(tmp_path / "a" / "b")
    make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="must be writable; got Not a directory"):
        make_folders(tmp_path / "file" / "b")


def test_the_hash_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


# --------------------------------------------------------------------------------------------------
# Locks


def hold(path: Path, ready, release) -> None:
    with locked(path, wait=True):
        ready.set()
        release.wait(60)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path/lock`, until its event `release`."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    release = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "lock", ready, release))
    process.start()
    assert ready.wait(60)
    yield process, release
    process.kill()
    process.join()


def test_one_process_holds_a_lock_and_a_dead_one_loses_it(tmp_path, holder):
    process, _ = holder
    with pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
        pass
    process.kill()
    with locked(tmp_path / "lock", wait=True):
        pass


def test_a_lock_can_be_waited_for_and_leaves_the_file_alone(tmp_path, holder):
    _, release = holder
    (tmp_path / "lock").write_bytes(b"content")
    release.set()
    with locked(tmp_path / "lock", wait=True):
        assert (tmp_path / "lock").read_bytes() == b"content"


@pytest.mark.parametrize("number", files.NO_LOCKS, ids=errno.errorcode.get)
def test_without_locks_of_the_file_system_nobody_is_refused(tmp_path, monkeypatch, number):
    def unsupported(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path / "lock", wait=False):
        pass


def test_an_error_of_the_lock_is_not_taken_for_a_missing_lock(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / "lock", wait=False):
        pass


def test_json_is_read_and_written_without_numpy():
    """Commands parse their options, and read config.json, before they load anything."""
    names = {name for name in vars(files) if not name.startswith("_")}
    assert "np" not in names
    assert json.loads(json_bytes(NEW)) == NEW


def test_a_folder_is_new_where_nothing_can_be_overwritten(tmp_path):
    assert is_new_folder(tmp_path / "missing")
    assert is_new_folder(tmp_path)
    (tmp_path / "file").touch()
    assert not is_new_folder(tmp_path)
    assert not is_new_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="it must be new; got .*, which exists. Choose another."):
        require_empty(tmp_path, rule="it must be new", fix="Choose another.")

"""One writer at a time, whoever dies when."""

import errno
import json
import multiprocessing
import os
import socket

import pytest

from glot_jax.errors import UsageError
from glot_jax.store import Recipe
from glot_jax.store.layout import lock_folder
from glot_jax.store.lock import StoreLock, read_begun

RECIPE = Recipe.partial(dim=3)


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
    """Two processes find the same stale lock.

    The slower one meets the lock of the faster one, under the same name.
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
    def unsupported(*_):
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

"""States are found again by their token ids, whole or not at all, and the cache stays bounded."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.store.state_cache import StateCache, clear_cache, states_folder, text_key

IDENTITY = {"backbone": "b"}
TEXTS = [[1, 2, 3], [4], [5, 6]]
KEYS = [text_key(ids) for ids in TEXTS]


def states(seed: int = 0) -> dict[int, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(6, 4))
    return {6: values.astype(np.float16)}


def opened(folder, **changes) -> StateCache:
    settings = {"layers": (6,), "dim": 4, "dtype": "float16", **changes}
    return StateCache(IDENTITY, folder=folder, **settings)


def test_states_are_found_again_in_any_order(tmp_path):
    cache = opened(tmp_path / "c")
    assert len(cache) == 0
    cache.add(TEXTS, states())
    again = opened(tmp_path / "c")
    assert all(key in again for key in KEYS)
    assert text_key([1, 2]) not in again
    result = again.states([KEYS[2], KEYS[0]])[6]
    np.testing.assert_array_equal(result, states()[6][[4, 5, 0, 1, 2]])
    assert again.states([])[6].shape == (0, 4)


@pytest.mark.parametrize("changes", [{"dtype": "float32"}, {"layers": (5,)}])
def test_other_states_are_kept_apart(tmp_path, changes):
    opened(tmp_path / "c").add(TEXTS, states())
    assert len(opened(tmp_path / "c", **changes)) == 0
    assert (
        len(StateCache({"b": 1}, folder=tmp_path / "c", layers=(6,), dim=4, dtype="float16")) == 0
    )


def test_the_folder_is_its_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOT_JAX_CACHE", str(tmp_path / "mine"))
    StateCache(IDENTITY, layers=(6,), dim=4, dtype="float16").add(TEXTS, states())
    assert states_folder() == tmp_path / "mine" / "states"
    assert stat.S_IMODE(states_folder().stat().st_mode) == 0o700
    assert clear_cache() > 0
    assert clear_cache() == 0
    assert len(StateCache(IDENTITY, layers=(6,), dim=4, dtype="float16")) == 0


@pytest.mark.parametrize("name", ["keys.npy", "offsets.npy", "hidden-L6.npy"])
@pytest.mark.parametrize("damage", ["cut", "pickle", "gone"])
def test_a_damaged_chunk_is_not_read(tmp_path, name, damage):
    opened(tmp_path / "c").add(TEXTS, states())
    (path,) = (tmp_path / "c").glob(f"*/*.states/{name}")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert len(opened(tmp_path / "c")) == 0


def test_what_was_not_read_for_longest_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOT_JAX_STATES_GB", "1")
    cache = opened(tmp_path / "c")
    for number in range(4):
        cache.add([[number]], {6: np.zeros((1, 4), np.float16)})
    chunks = sorted((tmp_path / "c").glob("*/*.states"), key=os.path.getmtime)
    size = sum(path.stat().st_size for path in chunks[0].iterdir())
    for age, chunk in enumerate(chunks):
        os.utime(chunk, (time.time() - 100 + age, time.time() - 100 + age))
    # The oldest is read, and so is not the oldest any more.
    cache.states([text_key([0])])
    monkeypatch.setenv("GLOT_JAX_STATES_GB", str(2.5 * size / 1e9))
    with cache.writing():
        pass
    left = opened(tmp_path / "c")
    assert [text_key([number]) in left for number in range(4)] == [True, False, False, True]
    # Mapped before, and still readable.
    assert cache.states([text_key([1])])[6].shape == (1, 4)
    monkeypatch.setenv("GLOT_JAX_STATES_GB", "much")
    with pytest.raises(UsageError, match="must be a number of gigabytes"), cache.writing():
        pass


def compute(folder, queue) -> None:
    """What a worker of a grid does: the first computes, the others find."""
    cache = opened(folder)
    with cache.writing():
        missing = [ids for ids in TEXTS if text_key(ids) not in cache]
        if missing:
            time.sleep(0.2)
            cache.add(missing, states())
        queue.put(len(missing))


def test_one_of_several_processes_computes(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=compute, args=(tmp_path / "c", queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    counts = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(counts) == [0, 0, 3]


def open_files() -> int:
    """Descriptors of this process, and files of a cache that it has mapped."""
    maps = Path("/proc/self/maps").read_text()
    return len(os.listdir("/proc/self/fd")) + maps.count(".states/")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_many_small_calls_hold_few_files_open(tmp_path):
    cache = opened(tmp_path / "c")
    before = open_files()
    for number in range(400):
        cache.add([[number]], {6: np.full((1, 4), number, np.float16)})
    assert open_files() < before + 200
    keys = [text_key([number]) for number in range(400)]
    expected = np.repeat(np.arange(400, dtype=np.float16)[:, None], 4, axis=1)
    np.testing.assert_array_equal(cache.states(keys)[6], expected)
    assert open_files() < before + 200
    again = opened(tmp_path / "c")
    np.testing.assert_array_equal(again.states(keys[::-1])[6], expected[::-1])
    assert open_files() < before + 300


def test_what_another_process_removed_is_not_there(tmp_path):
    cache = opened(tmp_path / "c")
    for number in range(40):
        cache.add([[number]], {6: np.full((1, 4), number, np.float16)})
    clear_cache(tmp_path / "c")
    first = text_key([0])
    last = text_key([39])
    # Read a moment ago, and still mapped; the other one would have to be opened again.
    assert cache.states([last])[6][0, 0] == 39
    with pytest.raises(KeyError):
        cache.states([last, first])
    assert first not in cache
    assert last in cache

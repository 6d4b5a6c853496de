"""Files of a store at a URL: fetched once, hashed on the way, refused where they differ."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from support.object_stores import url

from glot_jax.errors import UsageError
from glot_jax.remote.fetching import FileCache, Wanted
from glot_jax.remote.objects import Objects

CONTENT = "ab" * 32


@pytest.fixture
def cache(bucket, own_cache):
    cache = FileCache(Objects(url(f"{bucket}/store")), CONTENT)
    assert cache.folder.is_relative_to(own_cache)
    return cache


def put(cache, name, content):
    cache.objects.put(name, content)
    digest = hashlib.sha256(content).hexdigest()
    return Wanted(cache.folder / name, digest, len(content))


def test_a_file_is_fetched_once_and_private(cache, own_cache):
    file = put(cache, "train/a.npy", b"12345")
    assert cache.fetch(file)
    assert not cache.fetch(file)
    assert file.path.read_bytes() == b"12345"
    assert file.path == own_cache / "stores" / CONTENT / "train/a.npy"
    assert stat.S_IMODE((own_cache / "stores").stat().st_mode) == 0o700
    assert cache.fetched == 5
    cache.drop(file)
    assert cache.missing([file]) == [file]


@pytest.mark.parametrize("content", ["../../etc", "AB" * 32, "ab" * 31, ""])
def test_a_content_that_is_no_hash_becomes_no_path(bucket, content):
    with pytest.raises(UsageError, match="must be 64 hexadecimal digits"):
        FileCache(Objects(url(f"{bucket}/store")), content)


def test_other_bytes_are_refused_and_leave_nothing(cache):
    file = put(cache, "a.npy", b"12345")
    cache.objects.put("a.npy", b"12346")
    with pytest.raises(UsageError, match="s3://bucket/store/a.npy, whose content differs"):
        cache.fetch(file)
    cache.objects.put("a.npy", b"123456")
    with pytest.raises(UsageError, match="with 6 bytes instead of 5"):
        cache.fetch(file)
    cache.objects.delete(["a.npy"])
    with pytest.raises(UsageError, match="which is missing"):
        cache.fetch(file)
    assert list(cache.folder.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(cache, monkeypatch):
    file = put(cache, "a.npy", b"12345")
    assert cache.require_room([file]) == 5
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(UsageError, match="5 bytes to fetch, 3 bytes free, 2 too few"):
        cache.require_room([file])
    assert cache.fetched == 0


def test_threads_ask_for_one_file_once(cache, monkeypatch):
    file = put(cache, "a.npy", b"12345")
    asked = []
    original = Objects.stream

    def slow(self, name, size=None):
        asked.append(name)
        threading.Event().wait(0.1)
        yield from original(self, name, size)

    monkeypatch.setattr(Objects, "stream", slow)
    threads = [threading.Thread(target=cache.fetch, args=(file,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["a.npy"]


def test_files_are_fetched_ahead(cache):
    files = [put(cache, f"{number}.npy", bytes([number]) * 9) for number in range(30)]
    bad = Wanted(cache.folder / "30.npy", "0" * 64, 9)
    cache.objects.put("30.npy", b"x" * 9)
    checked = []
    cache.fetch(files[3])
    cache.ahead([(file, lambda: checked.append(1)) for file in files] + [(bad, None)])
    for thread in threading.enumerate():
        if thread.name == "fetch":
            thread.join()
    assert cache.missing(files) == []
    assert checked == [1]
    # Told where it is asked for.
    with pytest.raises(UsageError, match="content differs"):
        cache.fetch(bad)


def test_a_process_that_ends_waits_for_the_piece_in_flight_alone(tmp_path):
    """And it ends well: threads that Python kills inside obstore would abort it."""
    code = f"""
import time
from pathlib import Path
from obstore.store import MemoryStore
from glot_jax.config.location import parse_location
from glot_jax.remote import objects
from glot_jax.remote.fetching import FileCache, Wanted

memory = MemoryStore()
objects.client = lambda scheme, bucket: memory

def endless(self, name, size=None):
    while True:
        time.sleep(0.05)
        yield b"x"

objects.Objects.stream = endless
there = objects.Objects(parse_location("s3://bucket/x"))
cache = FileCache(there, "ab" * 32, Path({str(tmp_path)!r}))
cache.ahead([(Wanted(cache.folder / str(n), "0" * 64, 10**9), None) for n in range(50)])
time.sleep(0.2)
print("done")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "done\n"
    assert ended.stderr == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

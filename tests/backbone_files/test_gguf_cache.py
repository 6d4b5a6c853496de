"""A GGUF file is dequantised once; what is kept is private, checked and bounded."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time

import pytest

pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

from support.tiny_gguf import write_gguf

from glot_jax.backbone_files import gguf_cache as cache
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256

pytestmark = pytest.mark.usefixtures("gguf_cache")


@pytest.fixture
def file(tmp_path):
    return write_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def made(monkeypatch):
    """The files that were dequantised, in order."""
    names = []
    make = cache._make

    def counted(file, sha256, folder):
        names.append(file.name)
        make(file, sha256, folder)

    monkeypatch.setattr(cache, "_make", counted)
    return names


def fetch(file):
    return cache.plain_folder(file, file_sha256(file))


def test_it_is_made_once_and_is_its_users_own(gguf_cache, file, made):
    folder, notices = fetch(file)
    assert folder.parent == gguf_cache
    assert stat.S_IMODE(gguf_cache.stat().st_mode) == 0o700
    assert "dequantised to float32" in notices[0]
    again, silent = fetch(file)
    assert (again, silent) == (folder, [])
    # By content: another name of the same bytes is the same model.
    other = file.with_name("other.gguf")
    shutil.copyfile(file, other)
    assert fetch(other)[0] == folder
    assert made == ["tiny.gguf"]


def test_its_name_holds_what_decides_the_numbers(file, made, monkeypatch):
    first, _ = fetch(file)
    monkeypatch.setattr(cache.importlib.metadata, "version", lambda _package: "99")
    second, _ = fetch(file)
    assert second != first
    assert len(made) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "more", "gone", "record"])
def test_what_is_not_what_was_written_is_made_again(file, made, damage):
    folder, _ = fetch(file)
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    if damage == "flip":
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        weights.write_bytes(data[:-9])
    elif damage == "more":
        (folder / "modeling_evil.py").write_text("raise SystemExit")
    elif damage == "gone":
        weights.unlink()
    else:
        (folder / cache.RECORD).write_text("{")
    with pytest.raises(UsageError, match="cached model must be what was written"):
        cache.checked_folder(folder)
    again, notices = fetch(file)
    assert again == folder
    assert "was made again" in notices[0]
    assert weights.read_bytes() == data
    assert not (folder / "modeling_evil.py").exists()
    assert made == ["tiny.gguf"] * 2


def test_a_file_that_cannot_be_read_leaves_nothing(gguf_cache, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", leave_out="blk.0.attn_k.weight")
    with pytest.raises(UsageError, match="every weight"):
        fetch(file)
    assert [path.suffix for path in gguf_cache.iterdir()] == [".lock"]


def test_two_at_once_make_it_once(file, made):
    threads = [threading.Thread(target=fetch, args=(file,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["tiny.gguf"]


def test_the_oldest_goes_where_there_is_no_room(tmp_path, monkeypatch):
    folders = []
    for seed in range(3):
        file = write_gguf(tmp_path / f"{seed}.gguf", seed=seed)
        folder, _ = fetch(file)
        # Older than all that follow.
        past = time.time() - 100 + seed
        os.utime(folder, (past, past))
        folders.append(folder)
    # The first was used again, so that the second is the oldest.
    fetch(tmp_path / "0.gguf")
    size = sum(path.stat().st_size for path in folders[0].iterdir())
    monkeypatch.setenv("GLOT_JAX_CACHE_GB", str(3.5 * size / 1e9))
    fourth, _ = fetch(write_gguf(tmp_path / "3.gguf", seed=3))
    assert [folder.is_dir() for folder in folders] == [True, False, True]
    # What was just made stays, however little room there is.
    monkeypatch.setenv("GLOT_JAX_CACHE_GB", "0")
    fifth, _ = fetch(write_gguf(tmp_path / "4.gguf", seed=4))
    assert fifth.is_dir()
    assert not fourth.is_dir()


def test_its_size_is_a_number(file, monkeypatch):
    monkeypatch.setenv("GLOT_JAX_CACHE_GB", "much")
    with pytest.raises(UsageError, match="GLOT_JAX_CACHE_GB must be a number of gigabytes"):
        fetch(file)


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("GLOT_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "glot-jax" / "gguf"
    monkeypatch.setenv("GLOT_JAX_CACHE", str(tmp_path / "own"))
    assert cache.cache_folder() == tmp_path / "own" / "gguf"

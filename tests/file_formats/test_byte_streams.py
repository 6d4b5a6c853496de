"""A file's bytes: what was packed is unpacked.

What cannot be is one error that names the file.
"""

from __future__ import annotations

import gzip
import io
import random
import sys
import time
from collections.abc import Callable

import pytest
import zstandard
from support.written_files import examples, refuses, task, write_all

from glot_jax.file_formats import byte_streams
from glot_jax.file_formats.byte_streams import read_chunks, require_data_file

GOOD = "text,label\na,0\nb,1\n"


NOISE = random.Random(0).randbytes(700_000)


@pytest.mark.parametrize("content", [b"", b"x", NOISE, NOISE + b"\n" * 3_000_000])
@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        gzip.compress,
        zstandard.compress,
        lambda raw: gzip.compress(raw[:5]) + gzip.compress(raw[5:]) + b"\0" * 512,
        lambda raw: zstandard.compress(raw[:5]) + zstandard.compress(raw[5:]),
    ],
)
def test_what_was_packed_is_unpacked_whatever_the_file_is_called(tmp_path, content, pack):
    path = tmp_path / "data.csv"
    path.write_bytes(pack(content))
    assert b"".join(read_chunks(path)) == content
    assert all(0 < len(chunk) < 5_000_000 for chunk in read_chunks(path))


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-3],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw + b"more",
        lambda raw: raw[:5000] + bytes(64) + raw[5064:],
    ],
)
def test_a_damaged_archive_is_one_error_with_its_name(tmp_path, suffix, damage):
    rows = "text,label\n" + "".join(
        f"{NOISE[at : at + 20].hex()},{at % 2}\n" for at in range(0, 40_000, 20)
    )
    write_all(tmp_path, {f"train.csv.{suffix}": rows})
    path = tmp_path / f"train.csv.{suffix}"
    path.write_bytes(damage(path.read_bytes()))
    with refuses("a compressed data file must be whole and undamaged", f"train.csv.{suffix}: "):
        task(tmp_path)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_suffix_that_lies_is_an_error(tmp_path, suffix):
    (tmp_path / f"train.csv.{suffix}").write_text(GOOD)
    with refuses(f"a .{suffix} file must be compressed", f"train.csv.{suffix}"):
        task(tmp_path)


def gzip_bomb(begin: bytes, unit: bytes) -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6) as packed:
        packed.write(begin)
        for _ in range(70):
            packed.write(unit * 1_000_000)
    return file.getvalue()


def zstandard_bomb(begin: bytes, unit: bytes) -> bytes:
    file = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
        packed.write(begin)
        for _ in range(110):
            packed.write(unit * 1_000_000)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "bomb", "begin", "unit"),
    [
        ("train.csv.gz", gzip_bomb, b"text,label\n", b"\n"),
        ("train.jsonl.gz", gzip_bomb, b'{"text": "', b"x"),
        ("train.jsonl.zst", zstandard_bomb, b"", b"\n"),
        ("train.csv.zst", zstandard_bomb, b"text,label\n", b"x"),
        ("train.json.zst", zstandard_bomb, b'[{"text": "', b"x"),
        ("train.tsv.zst", zstandard_bomb, b'text\tlabel\n"', b"\0"),
    ],
)
def test_a_bomb_ends_in_one_message_at_once(
    tmp_path, name, bomb: Callable[[bytes, bytes], bytes], begin, unit
):
    write_all(tmp_path, {name: bomb(begin, unit)})
    assert (tmp_path / name).stat().st_size < 110_000
    start = time.process_time()
    with refuses("a compressed data file must hold text", f"{name}: ", "unpack to more than"):
        task(tmp_path)
    assert time.process_time() - start < 2


def test_a_bomb_behind_honest_rows_is_found_too(tmp_path, monkeypatch):
    monkeypatch.setattr(byte_streams, "FLOOR", 1 << 20)
    monkeypatch.setattr(byte_streams, "WINDOW", 1 << 12)
    rows = "text,label\n" + NOISE[:100_000].hex() + ",1\n" + "x" * 3_000_000 + ",0\n"
    write_all(tmp_path, {"train.csv.gz": rows})
    with refuses("a compressed data file must hold text", "train.csv.gz: "):
        task(tmp_path)


def test_repetitive_rows_are_no_bomb(tmp_path):
    rows = "text,label\n" + "the same text in every row,1\nand another one,0\n" * 5_000
    write_all(tmp_path, {"train.csv.zst": rows})
    assert (tmp_path / "train.csv.zst").stat().st_size < len(rows) / 1000
    assert len(task(tmp_path).splits["train"]) == 10_000


def test_a_line_without_an_end_is_an_error(tmp_path, monkeypatch):
    from glot_jax.file_formats import text_lines

    monkeypatch.setattr(text_lines, "LONGEST_LINE", 1_000_000)
    write_all(tmp_path, {"train.jsonl": '{"text": "a", "label": 1}\n{"text": "' + "x" * 2_000_000})
    with refuses("a line must be at most", "train.jsonl:2: more than 1,000,000 bytes"):
        task(tmp_path)


def test_frames_that_zstandard_skips_may_come_first(tmp_path):
    # pzstd writes the size of the frame that follows into such a frame.
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    frame = zstandard.compress(GOOD.encode())
    (tmp_path / "train.csv.zst").write_bytes(skipped + frame)
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]


def test_links_as_dvc_lays_them_are_followed_and_dangling_ones_told(tmp_path):
    cache = tmp_path / "cache" / "4d"
    write_all(cache, {"7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393": GOOD})
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").symlink_to(next(cache.iterdir()))
    assert examples(task(folder)) == [("a", 0), ("b", 1)]
    assert examples(task(folder / "train.csv")) == [("a", 0), ("b", 1)]
    (folder / "dev.csv").symlink_to("../cache/nothing")
    with refuses(
        "a data file must exist",
        "dev.csv, a link to ../cache/nothing, where nothing is",
        "dvc pull",
    ):
        task(folder)
    with refuses("a data file must exist", "dev.csv, a link to"):
        task(folder / "dev.csv")
    with refuses("a data file must be a file"):
        require_data_file(folder)


def test_a_missing_package_is_one_message(tmp_path, monkeypatch):
    write_all(tmp_path, {"train.csv.zst": GOOD})
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with refuses("this needs the package zstandard", "pip install"):
        task(tmp_path)

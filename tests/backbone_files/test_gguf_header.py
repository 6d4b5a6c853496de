"""A GGUF header is read whole or refused in one message, whatever its counts claim."""

from __future__ import annotations

import random
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

import gguf
from support.tiny_gguf import BLOCKS, DIM, tokens, write_gguf

from glot_jax.backbone_files.gguf_header import read_header
from glot_jax.errors import UsageError


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def changed(tmp_path) -> Callable[[bytes], Path]:
    """Write other bytes beside the file."""

    def write(data: bytes) -> Path:
        path = tmp_path / "changed.gguf"
        path.write_bytes(data)
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_header(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_it_says_what_the_reader_of_the_package_says(file):
    header = read_header(file)
    reader = gguf.GGUFReader(file)
    assert [tensor.name for tensor in header.tensors] == [t.name for t in reader.tensors]
    for ours, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert ours.shape == tuple(theirs.shape.tolist())
        assert ours.quantisation == theirs.tensor_type.name
        assert ours.size == theirs.n_elements
    fields = {name for name in reader.fields if not name.startswith("GGUF.")}
    assert set(header.values) == fields
    assert header.architecture == "llama"
    assert header.setting("block_count") == BLOCKS
    assert header.setting("embedding_length") == DIM
    assert header.tokens == tokens()


COUNTS_AT = 8
"""Byte of the number of tensors; that of values follows."""


@pytest.mark.parametrize("count", [1 << 40, 1 << 63, (1 << 64) - 1, 100_000])
@pytest.mark.parametrize("which", [0, 1])
def test_a_count_beyond_the_file_is_not_looped_over(file, changed, count, which):
    data = bytearray(file.read_bytes())
    struct.pack_into("<Q", data, COUNTS_AT + 8 * which, count)
    began = time.monotonic()
    assert str(count) in refusal(changed(bytes(data)))
    assert time.monotonic() - began < 5


def test_a_list_beyond_the_file_is_not_looped_over(file, changed):
    data = bytearray(file.read_bytes())
    at = data.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    struct.pack_into("<Q", data, at, 1 << 40)
    assert f"{1 << 40} entries of tokenizer.ggml.tokens" in refusal(changed(bytes(data)))


def test_a_name_is_a_name(file, changed):
    # Of the same length: nothing else in the file moves.
    for name in (b"../../../.bashrc.", b"blk.0.\x00\x00\x00\x00q.weight", b"blk..attn_q.weigh"):
        old = b"blk.0.attn_q.weight"[: len(name)]
        assert "a tensor called" in refusal(changed(file.read_bytes().replace(old, name, 1)))


def test_two_tensors_of_one_name_or_one_place_are_refused(file, changed):
    data = file.read_bytes()
    twice = data.replace(b"blk.0.attn_k.weight", b"blk.0.attn_v.weight", 1)
    assert "blk.0.attn_v.weight twice" in refusal(changed(twice))
    # Name, dimensions, two sizes, type: the place of the second tensor is put on the first.
    at = data.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8 + 4
    moved = bytearray(data)
    struct.pack_into("<Q", moved, at, 0)
    assert "where another one is" in refusal(changed(bytes(moved)))
    struct.pack_into("<Q", moved, at, 1 << 40)
    assert "up to byte" in refusal(changed(bytes(moved)))


def test_other_files_are_named_as_what_they_are(file, changed):
    data = file.read_bytes()
    assert "begins with b'<htm'" in refusal(changed(b"<html>" + bytes(100)))
    assert "a file of 3 bytes" in refusal(changed(b"GGU"))
    big = data[:4] + struct.pack(">I", 3) + data[8:]
    assert "big-endian" in refusal(changed(big))
    assert "version 7" in refusal(changed(data[:4] + struct.pack("<I", 7) + data[8:]))


@pytest.mark.parametrize("name", ["block_count", "feed_forward_length", "attention.head_count"])
def test_a_model_is_no_larger_than_its_tensors(tmp_path, name):
    path = write_gguf(tmp_path / "large.gguf", settings={name: 1 << 30})
    assert f"llama.{name} = {1 << 30}" in refusal(path)


def test_one_part_of_several_is_refused_with_the_way_to_merge_them(tmp_path):
    message = refusal(write_gguf(tmp_path / "part.gguf", parts=3))
    assert "one of 3 parts. Merge them: llama-gguf-split --merge" in message


def mutations(data: bytes, count: int) -> list[bytes]:
    """Files cut, flipped, overwritten and stretched at seeded places of the header."""
    rng = random.Random(20)
    header = len(data) - 16_000
    made = []
    for number in range(count):
        changed = bytearray(data)
        at = rng.randrange(header)
        kind = number % 5
        if kind == 0:
            changed = changed[:at]
        elif kind == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            changed[at : at + 8] = struct.pack("<Q", rng.choice([1 << 40, 1 << 63, 0, 1 << 31]))
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del changed[at : at + rng.randrange(1, 64)]
        made.append(bytes(changed))
    return made


def test_a_damaged_header_ends_in_one_message_or_is_none(file, changed):
    data = file.read_bytes()
    whole = read_header(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    messages = []
    for damaged in mutations(data, 1000):
        path = changed(damaged)
        try:
            header = read_header(path)
        except UsageError as error:
            messages.append(str(error))
        else:
            # What can still be read is a file that differs in a value, and no more than that.
            assert len(header.tensors) == len(whole.tensors)
    assert not [message for message in messages if "\n" in message]
    # Most damage lies where it shows: in counts, lengths and names.
    assert len(messages) > 500
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # kilobytes

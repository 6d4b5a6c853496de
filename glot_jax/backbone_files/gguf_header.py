"""What a GGUF file says of itself, every count and offset of it checked against the file.

GGUF is the format of llama.cpp and Ollama: settings as typed values, then the names, shapes and
places of tensors, then the tensors (ggml's docs/gguf.md, versions 2 and 3). A file may come from
anybody. Readers of the format believe it: a list of 2^40 entries is a loop of 2^40 steps. So the
header is read here first, and nothing else opens a file that breaks a rule.

Nothing in a file is executed. The templates that it holds are neither read nor rendered.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeAlias

from glot_jax.errors import UsageError

Value: TypeAlias = "int | float | bool | str | list[str] | Numbers"

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING = 8
_ARRAY = 9
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Type of a value in the file -> its code in `struct`."""

# Far above what models have: 300 thousand tokens, some hundred settings, some thousand tensors.
_MOST_ENTRIES = 1 << 22
_MOST_VALUES = 1 << 14
_MOST_TENSORS = 1 << 16
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 256
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_AGAIN = "Download the file again, or convert the model again."


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A list of numbers, which nothing here needs to look into."""

    count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor's place in a file."""

    name: str
    shape: tuple[int, ...]
    """As the file counts: the axis that lies together in memory comes first."""
    quantisation: str
    """ggml's name of the numbers' format: F16, Q4_1, ..."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Header:
    """The settings and tensors of a file."""

    values: Mapping[str, Value]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """The kind of model, as llama.cpp calls it."""
        return str(self.values.get("general.architecture", ""))

    def setting(self, name: str) -> Value | None:
        """A value of the architecture's own: `block_count`, `embedding_length`, ..."""
        return self.values.get(f"{self.architecture}.{name}")

    @property
    def tokens(self) -> list[str]:
        """The tokenizer's tokens in the order of their ids."""
        tokens = self.values.get("tokenizer.ggml.tokens")
        return tokens if isinstance(tokens, list) else []


def read_header(path: Path) -> Header:
    """Return the header of a GGUF file.

    It takes memory and time in proportion to the header, whatever the header claims.

    Raises:
        UsageError: it is no GGUF file, or one that is cut, damaged, or does not fit together.
    """
    size = path.stat().st_size
    if size < 24:
        _refuse(path, f"a file of {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(path, data)
        if reader.take(4) != _MAGIC:
            _refuse(path, f"a file that begins with {bytes(data[:4])!r} instead of {_MAGIC!r}")
        version = reader.number("I")
        if version not in _VERSIONS:
            _refuse(path, _wrong_version(version))
        tensor_count = reader.count("Q", "tensors", _MOST_TENSORS)
        value_count = reader.count("Q", "values", _MOST_VALUES)
        values = _read_values(reader, value_count)
        tensors = _read_tensors(reader, tensor_count, _alignment(reader, values))
    header = Header(values, tensors)
    _require_model(path, header)
    return header


def _wrong_version(version: float) -> str:
    # The bytes of a small number, read from the wrong end.
    swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
    if swapped in _VERSIONS:
        return "a file for machines that store numbers big-endian"
    return f"version {version} of the format"


class _Reader:
    """Takes what comes next in a file, and never more than there is."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path = path
        self.size = len(data)
        self.position = 0
        self._data = data

    @property
    def left(self) -> int:
        return self.size - self.position

    def take(self, size: int) -> bytes:
        if size > self.left:
            _refuse(
                self.path,
                f"{size} bytes wanted at byte {self.position} of {self.size}",
            )
        start = self.position
        self.position += size
        return self._data[start : self.position]

    def skip(self, size: int) -> None:
        if size > self.left:
            _refuse(self.path, f"{size} bytes wanted at byte {self.position} of {self.size}")
        self.position += size

    def number(self, code: str) -> int | float | bool:
        data = self.take(struct.calcsize(f"<{code}"))
        (value,) = struct.unpack(f"<{code}", data)
        return value

    def count(self, code: str, noun: str, most: int) -> int:
        count = int(self.number(code))
        # Each takes a byte at least: what cannot be there is not looped over.
        if count > min(most, self.left):
            _refuse(self.path, f"{count} {noun} announced, {self.left} bytes left")
        return count

    def text(self, longest: int | None = None) -> str:
        length = int(self.number("Q"))
        if longest is not None and length > longest:
            _refuse(self.path, f"a name of {length} bytes at byte {self.position}")
        # Tokens may be any bytes; a name that is not UTF-8 fails its own check.
        return self.take(length).decode("utf-8", errors="replace")

    def name(self, noun: str) -> str:
        name = self.text(_LONGEST_NAME)
        if not _NAME.fullmatch(name):
            _refuse(self.path, f"a {noun} called {name!r}")
        return name


def _read_values(reader: _Reader, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for _ in range(count):
        name = reader.name("value")
        if name in values:
            _refuse(reader.path, f"the value {name} twice")
        values[name] = _read_value(reader, int(reader.number("I")), name)
    return values


def _read_value(reader: _Reader, kind: int, name: str) -> Value:
    if kind == _STRING:
        return reader.text()
    if kind == _ARRAY:
        return _read_list(reader, name)
    code = _NUMBERS.get(kind)
    if code is None:
        _refuse(reader.path, f"the value {name} of the unknown type {kind}")
    return reader.number(code)


def _read_list(reader: _Reader, name: str) -> list[str] | Numbers:
    kind = int(reader.number("I"))
    count = reader.count("Q", f"entries of {name}", _MOST_ENTRIES)
    if kind == _STRING:
        return [reader.text() for _ in range(count)]
    code = _NUMBERS.get(kind)
    if code is None:
        # Lists of lists are allowed by the format; no model has one.
        _refuse(reader.path, f"the list {name} of the unknown type {kind}")
    reader.skip(count * struct.calcsize(f"<{code}"))
    return Numbers(count)


def _alignment(reader: _Reader, values: Mapping[str, Value]) -> int:
    alignment = values.get("general.alignment", 32)
    # A power of two has one bit.
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment.bit_count() != 1:
        _refuse(reader.path, f"tensors aligned to {alignment!r} bytes")
    return alignment


def _read_tensors(reader: _Reader, count: int, alignment: int) -> tuple[Tensor, ...]:
    placed: dict[str, tuple[Tensor, int, int]] = {}
    for _ in range(count):
        name = reader.name("tensor")
        if name in placed:
            _refuse(reader.path, f"the tensor {name} twice")
        dimensions = reader.count("I", f"dimensions of {name}", _MOST_DIMENSIONS)
        shape = tuple(int(reader.number("Q")) for _ in range(dimensions))
        kind = int(reader.number("I"))
        start = int(reader.number("Q"))
        placed[name] = _placed(reader.path, name, shape, kind, start)
    _require_room(reader, alignment, placed)
    return tuple(tensor for tensor, _, _ in placed.values())


def _placed(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    kind: int,
    start: int,
) -> tuple[Tensor, int, int]:
    """A tensor, with its first byte and its bytes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        quantisation = GGMLQuantizationType(kind)
    except ValueError:
        _refuse(path, f"the tensor {name} in the format {kind}, which the package gguf lacks")
    block, block_bytes = GGML_QUANT_SIZES[quantisation]
    # Blocks lie along the first axis, so a row is a whole number of them.
    if not shape or min(shape) < 1 or shape[0] % block:
        _refuse(path, f"the tensor {name} of the shape {shape} in {quantisation.name}")
    tensor = Tensor(name, shape, quantisation.name)
    return tensor, start, tensor.size // block * block_bytes


def _require_room(
    reader: _Reader,
    alignment: int,
    placed: Mapping[str, tuple[Tensor, int, int]],
) -> None:
    """Require every tensor to lie in the file, and none on another one."""
    # Tensors begin at the next multiple behind the header.
    data = -(-reader.position // alignment) * alignment
    end = 0
    for tensor, start, size in sorted(placed.values(), key=lambda entry: entry[1]):
        if start % alignment or start < end:
            _refuse(reader.path, f"the tensor {tensor.name} at byte {start}, where another one is")
        end = start + size
        if data + end > reader.size:
            _refuse(
                reader.path,
                f"the tensor {tensor.name} up to byte {data + end} of {reader.size}",
            )


_SIZES = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_count",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "ssm.inner_size",
    "ssm.state_size",
)
"""Settings that a model is built by: no tensor of the file can be smaller than they say."""


def _require_model(path: Path, header: Header) -> None:
    """Require settings that fit the tensors: a model is built by them before it is filled."""
    if not header.architecture:
        _refuse(path, "no general.architecture")
    parts = header.values.get("split.count", 1)
    if parts != 1 and parts != 0:
        raise UsageError(
            rule="a GGUF backbone must be one file",
            got=f"{path}, one of {parts} parts",
            fix="Merge them: llama-gguf-split --merge FIRST OUT.",
        )
    if not header.tensors:
        _refuse(path, "no tensors")
    dimensions = [max(tensor.shape) for tensor in header.tensors]
    largest = max(*dimensions, len(header.tensors))
    for name in _SIZES:
        value = header.setting(name)
        if isinstance(value, int | float) and not 0 <= value <= largest:
            _refuse(
                path,
                f"{header.architecture}.{name} = {value}, where no tensor is larger than {largest}",
            )


def _refuse(path: Path, got: str) -> NoReturn:
    raise UsageError(rule="a GGUF file must be whole", got=f"{path}: {got}", fix=_AGAIN)

"""Which encoding a file may have that is not UTF-8: a proposal for a message, never a decision.

| the bytes                                            | proposed                                |
|------------------------------------------------------|-----------------------------------------|
| have a 0 at every second or at three of four indices | utf-16-le, utf-16-be, utf-32-le, -be    |
| decode to kana, Hangul or common Chinese characters  | shift_jis, euc_jp, euc_kr, gb18030, big5|
| decode to words of Cyrillic letters                  | cp1251, koi8-r                          |
| else                                                 | cp1252 if they decode, else latin-1     |

Every proposal has decoded the whole file, or the beginning of a long one.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_DECODED = 1 << 26
"""Bytes that a proposal has to decode."""
_SAMPLE = 1 << 16
"""Bytes that are looked at."""

_KANA = re.compile("[\u3041-\u30fe]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_EAST_ASIAN = re.compile("[\u3001-\u30fe\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff5e]")
_CYRILLIC = re.compile("[\u0410-\u044f\u0401\u0451]")
_SMALL_CYRILLIC = re.compile("[\u0430-\u044f\u0451]")
_WORD = re.compile(r"[^\x00-\x7f]+")


@dataclass(frozen=True)
class _Sample:
    """The beginning of a file, decoded in an encoding that it may have."""

    other: str
    """Its characters beyond ASCII."""
    run: float
    """How many of them stand together on average."""

    def share(self, pattern: re.Pattern[str]) -> float:
        """The share of the characters beyond ASCII that match, from 0 to 1."""
        if not self.other:
            return 0.0
        return len(pattern.findall(self.other)) / len(self.other)


def proposed_encoding(read: Callable[[], Iterable[bytes]], without: str) -> str:
    """Propose an encoding in which the bytes that `read` yields are text.

    Args:
        read: yields the bytes anew at every call.
        without: an encoding that they are known not to have, and that is not proposed.
    """
    head = _beginning(read())
    candidates = ["utf-8", *_LIKELY]
    wide = wide_encoding(head)
    if wide is not None:
        # Zeros at every second byte say more than what the bytes decode to.
        candidates.insert(0, wide)
    for name in candidates:
        sample = _decoded(head, name)
        if name == without or sample is None:
            continue
        is_likely = _LIKELY.get(name, _is_anything)
        # The cheap look at the beginning comes before decoding a file of gigabytes.
        if is_likely(sample) and decodes(read(), name):
            return name
    if without != "cp1252" and decodes(read(), "cp1252"):
        return "cp1252"
    # Any bytes are text in it, so that there is always something to try.
    return "latin-1"


def wide_encoding(head: bytes) -> str | None:
    """Tell UTF-16 and UTF-32 without a mark by their zeros; None where there are none in order.

    Text has many characters of one byte's range, blanks and line ends at least, whose upper bytes
    are 0.
    """
    if len(head) < 8:
        return None
    # The share of zeros among the bytes at 0, 4, 8 ..., at 1, 5, 9 ..., and so on.
    zeros: list[float] = []
    for offset in range(4):
        stride = head[offset::4]
        zeros.append(stride.count(0) / len(stride))
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    # Three characters in ten of one byte's range are enough, blanks and digits for example, where
    # the other byte of a pair hardly ever is 0.
    even = zeros[0::2]
    odd = zeros[1::2]
    if min(odd) > 0.3 and max(even) < 0.05:
        return "utf-16-le"
    if min(even) > 0.3 and max(odd) < 0.05:
        return "utf-16-be"
    return None


def decodes(chunks: Iterable[bytes], name: str) -> bool:
    """Tell whether the bytes, or the beginning of many, are valid in that encoding."""
    decoder = codecs.getincrementaldecoder(name)()
    total = 0
    try:
        for chunk in chunks:
            decoder.decode(chunk)
            total += len(chunk)
            if total > _DECODED:
                return True
        # A character that is cut off by the end of the file is an error here.
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _beginning(chunks: Iterable[bytes]) -> bytes:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _SAMPLE:
            break
    return head[:_SAMPLE]


def _decoded(head: bytes, name: str) -> _Sample | None:
    try:
        # The sample may end within a character.
        text = codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeError:
        return None
    # ASCII decodes alike in nearly all encodings, and tells nothing.
    words = _WORD.findall(text)
    other = "".join(words)
    run = len(other) / max(1, len(words))
    return _Sample(other, run)


def _is_anything(_: _Sample) -> bool:
    """UTF-8 and what the zeros tell: bytes that decode so by chance are not to be expected."""
    return True


def _is_wide(sample: _Sample) -> bool:
    """Most characters beyond ASCII are of East Asia or Cyrillic: two arbitrary bytes seldom are."""
    return sample.share(_EAST_ASIAN) + sample.share(_CYRILLIC) > 0.9


def _is_japanese(sample: _Sample) -> bool:
    # Kana are what Japanese has and Chinese has not.
    has_kana = sample.share(_KANA) > 0.1
    return sample.run >= 2 and sample.share(_EAST_ASIAN) > 0.95 and has_kana


def _is_korean(sample: _Sample) -> bool:
    return sample.run >= 1.5 and sample.share(_HANGUL) > 0.9


def _is_common(
    first: int,
    last: int,
    encoding: str,
) -> Callable[[_Sample], bool]:
    """Ask whether most characters are in the first, common part of a Chinese character set.

    That part has lead bytes from `first` to `last` in `encoding`. Text in another encoding decodes
    to characters all over the set.
    """

    def is_common(sample: _Sample) -> bool:
        common = 0
        for character in sample.other:
            raw = character.encode(encoding, "replace")
            common += len(raw) == 2 and first <= raw[0] <= last
        if sample.run < 1.5 or sample.share(_EAST_ASIAN) <= 0.9:
            return False
        return common > 0.7 * len(sample.other)

    return is_common


def _is_russian(sample: _Sample) -> bool:
    # KOI8 has small letters where cp1251 has capitals, and text is mostly small letters.
    small = sample.share(_SMALL_CYRILLIC)
    return sample.run >= 2 and sample.share(_CYRILLIC) > 0.8 and small > 0.5


_LIKELY: dict[str, Callable[[_Sample], bool]] = {
    # Those that few bytes are valid in come first: nearly anything is valid in cp1251.
    "utf-16-le": _is_wide,
    "utf-16-be": _is_wide,
    "shift_jis": _is_japanese,
    "euc_jp": _is_japanese,
    "euc_kr": _is_korean,
    "gb18030": _is_common(0xB0, 0xD7, "gb2312"),
    "big5": _is_common(0xA4, 0xC6, "big5"),
    "cp1251": _is_russian,
    "koi8-r": _is_russian,
}
"""Encoding -> whether what it decodes to looks like text in it."""

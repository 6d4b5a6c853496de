"""Which encoding a file may have that is no UTF-8: a proposal for a message, never a decision.

| the bytes                                            | proposed                                |
|------------------------------------------------------|-----------------------------------------|
| have a 0 at every second or at three of four places  | utf-16-le, utf-16-be, utf-32-le, -be    |
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

_PROBED = 1 << 26
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
class _Look:
    """What the decoded beginning of a file looks like."""

    name: str
    other: str
    """Its characters beyond ASCII."""
    run: float
    """How many of them stand together on average."""

    def share(self, pattern: re.Pattern[str]) -> float:
        return len(pattern.findall(self.other)) / len(self.other) if self.other else 0.0


def proposed_encoding(read: Callable[[], Iterable[bytes]], without: str) -> str:
    """An encoding, other than `without`, in which the bytes of `read` are text."""
    sample = _beginning(read())
    for name in [*filter(None, [wide_encoding(sample)]), "utf-8", *_LIKELY]:
        looks = _LIKELY.get(name, lambda _: True)
        look = _look(sample, name)
        if name != without and look is not None and looks(look) and decodes(read(), name):
            return name
    return next(
        (name for name in ("cp1252",) if name != without and decodes(read(), name)), "latin-1"
    )


def wide_encoding(head: bytes) -> str | None:
    """The encoding of two or four bytes for a character that a file without a mark has, by its
    zeros; None where there are no zeros in such an order.
    """
    zeros = [head[place::4].count(0) / max(1, len(head[place::4])) for place in range(4)]
    if len(head) < 8:
        return None
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    for name, first, second in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        often = min(zeros[first], zeros[first + 2]) > 0.3
        if often and max(zeros[second], zeros[second + 2]) < 0.05:
            return name
    return None


def decodes(chunks: Iterable[bytes], name: str) -> bool:
    """Whether the bytes, or the beginning of many, are valid in that encoding."""
    decoder = codecs.getincrementaldecoder(name)()
    seen = 0
    try:
        for chunk in chunks:
            decoder.decode(chunk)
            seen += len(chunk)
            if seen > _PROBED:
                return True
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _beginning(chunks: Iterable[bytes]) -> bytes:
    found = b""
    for chunk in chunks:
        found += chunk
        if len(found) >= _SAMPLE:
            break
    return found[:_SAMPLE]


def _look(sample: bytes, name: str) -> _Look | None:
    try:
        # The sample may end within a character.
        text = codecs.getincrementaldecoder(name)().decode(sample)
    except UnicodeError:
        return None
    words = _WORD.findall(text)
    other = "".join(words)
    return _Look(name, other, len(other) / len(words) if words else 0.0)


def _is_wide(look: _Look) -> bool:
    """Most characters beyond ASCII are of East Asia or Cyrillic: two arbitrary bytes seldom are."""
    return look.share(_EAST_ASIAN) + look.share(_CYRILLIC) > 0.9


def _is_japanese(look: _Look) -> bool:
    return look.run >= 2 and look.share(_EAST_ASIAN) > 0.95 and look.share(_KANA) > 0.1


def _is_korean(look: _Look) -> bool:
    return look.run >= 1.5 and look.share(_HANGUL) > 0.9


def _is_common(first: str, last: str, encoding: str) -> Callable[[_Look], bool]:
    """Whether most characters are in the first, common part of a Chinese character set."""

    def is_common(look: _Look) -> bool:
        raw = [character.encode(encoding, "replace") for character in look.other]
        common = [
            pair for pair in raw if len(pair) == 2 and int(first, 16) <= pair[0] <= int(last, 16)
        ]
        return look.run >= 1.5 and look.share(_EAST_ASIAN) > 0.9 and len(common) > 0.7 * len(raw)

    return is_common


def _is_russian(look: _Look) -> bool:
    # KOI8 has small letters where cp1251 has capitals.
    small = look.share(_SMALL_CYRILLIC)
    return look.run >= 2 and look.share(_CYRILLIC) > 0.8 and small > 0.5


_LIKELY: dict[str, Callable[[_Look], bool]] = {
    "utf-16-le": _is_wide,
    "utf-16-be": _is_wide,
    "shift_jis": _is_japanese,
    "euc_jp": _is_japanese,
    "euc_kr": _is_korean,
    "gb18030": _is_common("b0", "d7", "gb2312"),
    "big5": _is_common("a4", "c6", "big5"),
    "cp1251": _is_russian,
    "koi8-r": _is_russian,
}
"""Encoding -> whether what it decodes to looks like text in it."""

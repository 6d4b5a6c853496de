"""Words of a text, and the text without one of them."""

from __future__ import annotations

import re
from typing import NamedTuple

# Scripts that write no blanks between words: a character is the least that means something.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese characters
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


class Span(NamedTuple):
    """A stretch of a text."""

    start: int
    end: int


def word_spans(text: str) -> list[Span]:
    """Where the words of a text stand: what blanks separate, with its punctuation.

    Of scripts without blanks between words every character is one.
    """
    return [Span(*match.span()) for match in _WORD.finditer(text)]


def without(text: str, span: Span) -> str:
    """The text without a word, and without the blanks behind it."""
    rest = text[span.end :]
    # Else the text would have two blanks there, which some tokenizers take for a token.
    # At the end of the text there are none: those before the word go instead.
    if not rest.strip():
        return text[: span.start].rstrip()
    return text[: span.start] + rest.lstrip()

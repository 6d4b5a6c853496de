"""What may be written down: as UTF-8 into a store, and as one short line into a message.

A message quotes files that hold anything: a name of a megabyte, a control sequence for the
terminal, half a character. What is short and printable is shown as it is, everything else as Python
spells it, cut in the middle.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any


def encodes(text: str) -> bool:
    """Whether the text is UTF-8's:

    JSON can spell half of a surrogate pair, which nothing can store.
    """
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def shown(value: Any, limit: int = 80) -> str:
    r"""Python's spelling of any value, at most `limit` characters.

    >>> shown("a\0"), shown(["a", None]), shown("x" * 1000, 20)
    ("'a\\x00'", "['a', None]", "'xxxxxxx...xxxxxxxx'")
    """
    spelling = reprlib.Repr()
    # Two levels are enough to recognise a value, and a thousand would exceed Python's recursion
    # limit.
    spelling.maxlevel, spelling.maxstring, spelling.maxlong, spelling.maxother = (
        2,
        limit,
        limit,
        limit,
    )
    text = spelling.repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def plain(text: str, limit: int = 40) -> str:
    """A name as it is written, or in quotation marks where that would not show it: empty, long,
    blanks, unprintable.
    """
    as_it_is = 0 < len(text) <= limit and text.isprintable() and text == text.strip()
    return text if as_it_is else shown(text, limit)


def listed(names: Sequence[str], limit: int = 20, spell: Callable[[str], str] = plain) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(spell, names[:limit])) + more


def because(error: Exception) -> str:
    """What another library says about a failure, in one line."""
    return plain(" ".join(str(error).split()) or type(error).__name__, 200)

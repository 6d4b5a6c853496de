"""What may be written down: as UTF-8 into a store, and as one short line into a message.

A message quotes files that hold anything: a name of a megabyte, a control sequence for the
terminal, half a character. What is short and printable is shown as it is, everything else as Python
spells it, cut in the middle.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence


def encodes(text: str) -> bool:
    """Tell whether the text can be encodable as UTF-8.

    JSON can spell half of a surrogate pair, which is a Python string and which nothing can store.
    """
    # Asked of every text of every file, and most texts are ASCII: that is known without a copy.
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object, limit: int = 80) -> str:
    r"""Python's spelling of any value, at most `limit` characters.

    >>> shown("a\0"), shown(["a", None]), shown("x" * 1000, 20)
    ("'a\\x00'", "['a', None]", "'xxxxxxx...xxxxxxxx'")
    """
    spelling = reprlib.Repr()
    # Two levels are enough to recognise a value, and a thousand would exceed Python's recursion
    # limit.
    spelling.maxlevel = 2
    spelling.maxstring = limit
    spelling.maxlong = limit
    spelling.maxother = limit
    text = spelling.repr(value)
    if len(text) > limit:
        # The limits above are for each part of a value: a dict of long keys exceeds them together.
        return f"{text[: limit - 3]}..."
    return text


def plain(text: str, limit: int = 40) -> str:
    """A name as it is written, or in quotation marks where that would not show it.

    Quoted are names that are empty or long, that begin or end with a blank, or that hold characters
    which do not print.
    """
    fits = 0 < len(text) <= limit
    if fits and text.isprintable() and text == text.strip():
        return text
    return shown(text, limit)


def listed(
    names: Sequence[str],
    limit: int = 20,
    spell: Callable[[str], str] = plain,
) -> str:
    """The first names, separated by commas, and how many more there are."""
    text = ", ".join(map(spell, names[:limit]))
    hidden = len(names) - limit
    if hidden > 0:
        return f"{text} and {hidden} more"
    return text


def because(error: Exception) -> str:
    """What another library says about a failure, in one line of at most 200 characters."""
    # A MemoryError, for one, has no text: then its class has to do.
    message = " ".join(str(error).split())
    return plain(message or type(error).__name__, 200)

"""The words of the stress test: related words, negations, fillers, distractors, templates."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile("[a-z]{3,}")

PAIRS = (
    ("keys", "reports"),
    ("apples", "letters"),
    ("books", "tickets"),
    ("coins", "shoes"),
    ("maps", "photos"),
    ("plates", "candles"),
    ("tools", "papers"),
    ("flowers", "bottles"),
)
"""`controlled`: the related words.

A text has both members of one pair; label 1 = the first-listed one is affirmed.
"""

NEGATIONS = (
    ("but", "not"),
    ("and", "never"),
    ("but", "without"),
    ("while", "excluding"),
)
"""`controlled`: what stands between the related words.

It affirms the word before it and negates the one after it.
"""

MODIFIERS = ("not", "never", "without", "excluding")
"""`released`: what negates a noun."""


def _words(block: str) -> tuple[str, ...]:
    return tuple(block.split())


FILLERS = _words("""
the this that these those some here there now then also just still even again soon today
yesterday once often always later very quite rather perhaps maybe indeed about around
""")
"""Neutral words.

They fill the signal span, and the gap in front of the negated noun of `released`.
"""

COMMON_WORDS = _words("""
time year day week month hour night people child woman house room door wall floor roof window
garden street road city town village country world river lake sea ocean island hill forest tree
leaf grass field farm animal horse dog cat bird fish cow sheep water fire air wind rain snow
cloud sun moon star sky light dark color red blue green white black brown gray gold silver iron
stone wood glass cloth cotton leather oil salt sugar milk bread butter cheese meat rice soup
fruit table chair bed lamp clock box bag cup dish knife spoon bowl pot pan stove oven soap towel
mirror picture music song dance game sport ball team player coach school class teacher student
lesson test page story poem word letter number line shape circle square point edge corner side
center front back top bottom left right north south east west head face eye ear nose mouth hand
arm leg foot heart blood bone skin hair body mind voice sound noise smell taste touch feeling
hope fear love joy anger pain sleep dream work job office bank shop store market price money
cost tax law court judge police army war peace king queen prince church temple train bus car
ship boat plane wheel engine bridge station port travel journey map walk run jump climb swim fly
drive ride push pull carry throw catch hold drop break build make cut draw write read speak talk
listen watch look find lose win buy sell pay give take send bring keep leave stay wait begin
stop open close turn move change grow learn teach think know believe recall forget help serve
lead follow meet join share big small long short high low wide narrow deep thick thin heavy soft
hard rough smooth sharp round flat hot cold warm cool dry wet clean new old young rich poor
strong weak fast slow early late good bad happy sad quiet loud busy free full empty
""")
"""Distractors of `controlled`; the first hundred are the noise of `released`.

Each is one token of the usual vocabularies, so that as many words are as many tokens.
"""

CONTEXTS = (
    "the box contains",
    "we could see",
    "he came with",
    "the shop sells",
    "the team needs",
    "they always bring",
)
"""`released`: how a statement begins."""
NOUNS = _words("keys reports apples letters tickets books coins photos candles tools")
"""`released` and `paper`: what a statement is about."""

# Each label's templates hold the same words, so a bag of words knows the label no better than
# chance.
TEMPLATES = (
    ("the file has {x} but not {y}", "the file has not {x} but {y}"),
    ("the box came with {x} yet without {y}", "the box came without {x} yet with {y}"),
    ("the report has some {x} and no {y}", "the report has no {x} and some {y}"),
    ("the shop always sells {x} and never {y}", "the shop never sells {x} and always {y}"),
)
"""`paper`: (label 1: {x} is affirmed, label 0: {x} is negated)."""


def whole_words(tokens: Iterable[str]) -> list[str]:
    """The vocabulary entries that are words: lower-case ASCII letters, three or more.

    A WordPiece vocabulary (some entries begin with ##) gives those without ##; a byte-level or
    SentencePiece one those that begin a word, marked by Ġ or ▁, which is taken off; one without
    marks gives all.

    Args:
        tokens: the entries of a tokenizer's vocabulary, in any order.

    Returns:
        The words, sorted, each once.

    >>> whole_words(["cat", "##dog", "[CLS]", "an"]), whole_words(["Ġcat", "dog", "▁bird", "Ġan"])
    (['cat'], ['bird', 'cat'])
    """
    # Walked through twice, which an iterator could not be.
    tokens = list(tokens)
    is_wordpiece = any(token.startswith("##") for token in tokens)
    if not is_wordpiece:
        # Some vocabularies hold a bare mark as a character of its own.
        marked = [token[1:] for token in tokens if _begins_word(token)]
        # A vocabulary without marks: nothing tells a piece from a word.
        tokens = marked or tokens
    # Shorter entries are pieces of words and abbreviations more often than words.
    words = {token for token in tokens if _WORD.fullmatch(token)}
    return sorted(words)


def _begins_word(token: str) -> bool:
    return len(token) > 1 and token[0] in "Ġ▁"

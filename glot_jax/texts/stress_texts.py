"""The stress test: does a pooler still see a short statement among many distractors?

| protocol | words | label is decided by | length | bag-of-words | from |
| --- | --- | --- | --- | --- | --- |
| `controlled` | 100 | which of two related words is negated | exactly 0.5 | exactly 0.5 | ours |
| `released` | varying | a modifier: the word count | **1.000** | about 1.0 | the authors' code |
| `paper` | 256 | which of two words is negated | 0.5 | about 0.5 | paper B.4, Alg. 2 |

A score on `released` says nothing about relations between words, since the word count alone reaches
it. `stress_controls` computes these baselines for the very texts that were generated, to be printed
beside every score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from glot_jax.errors import UsageError, lookup
from glot_jax.texts.stress_words import (
    COMMON_WORDS,
    CONTEXTS,
    FILLERS,
    MODIFIERS,
    NEGATIONS,
    NOUNS,
    PAIRS,
    TEMPLATES,
)

# Each word is one token of the usual vocabularies, so all fit in 128 with the special tokens.
CONTROLLED_WORDS = 100
RELEASED_WORDS = 128
PAPER_WORDS = 256
SPLITS = ("train", "validation", "test")

_RELEASED_NOISE = 100
"""Words of `COMMON_WORDS` that are the noise of `released`."""
_RELEASED_GAP = 10
"""Words between modifier and noun there, which the other label has not: the leak."""

Item = TypeVar("Item")
Rng = np.random.Generator


@dataclass(frozen=True)
class StressRow:
    """A text of space-separated lower-case words, and its label."""

    text: str
    label: int
    """0: the queried word is negated, 1: it is affirmed."""


@dataclass(frozen=True)
class StressTextSpec:
    """What a generator of texts goes by."""

    ratio: float
    """The share of distractors among the words of a text, in [0, 1)."""
    distance: int = 0
    """Words to put between the related ones."""
    vocabulary: tuple[str, ...] = ()
    """The distractors of `paper`."""
    position: float | None = None
    """The share of the distractors that stand before the signal; None: any, at random."""

    def signal_index(self, rng: Rng, noise: int) -> int:
        """How many of `noise` distractors stand before the signal."""
        if self.position is None:
            return int(rng.integers(noise + 1))
        return round(self.position * noise)

    def noise_words(self, length: int) -> int:
        """floor(length x ratio), the number of distractors in a text of `length` words."""
        # 0.29 x 100 is 29, although its product in binary is a hair less.
        return math.floor(length * self.ratio + 1e-9)


Twins = tuple[StressRow, StressRow]
"""One row of each label, 1 before 0."""
Generator = Callable[[Rng, StressTextSpec], Twins]


def generate(
    protocol: str,
    *,
    ratio: float,
    rows: tuple[int, int, int],
    seed: int,
    vocabulary: Sequence[str] | None = None,
    distance: int = 0,
    position: float | None = None,
) -> dict[str, list[StressRow]]:
    """Texts of the splits train, validation and test, classes exactly balanced.

    The same arguments give the same texts.

    Args:
        protocol: a name of `PROTOCOLS`.
        ratio: the share of distractor words, in [0, 1).
        rows: how many texts the three splits have.
        seed: of all draws.
        vocabulary: the distractors of `paper`, which needs them.
        distance: the number of words inserted between the related words (`controlled` only).
        position: the share of the distractors that stand before the signal; None: any, at random.

    Raises:
        UsageError: a ratio that leaves the signal no room, odd `rows` (labels come in pairs), a
            distance that would do nothing, a position outside [0, 1].
    """
    generator = lookup(PROTOCOLS, protocol, "protocol")
    _check_options(protocol, ratio, rows, distance, position)
    # A set, sorted: the order of a tokenizer's vocabulary must not decide which words are drawn.
    words = tuple(sorted(set(vocabulary or ())))
    spec = StressTextSpec(ratio, distance, words, position)
    splits: dict[str, list[StressRow]] = {}
    for index, (name, count) in enumerate(zip(SPLITS, rows, strict=True)):
        # A stream per split: asking for more training rows leaves the test set as it was.
        rng = np.random.default_rng([seed, index])
        twins: list[StressRow] = []
        # Both labels at every draw, so that the classes are balanced exactly.
        for _ in range(count // 2):
            twins += generator(rng, spec)
        # Mixed: one label after the other would be an order that batches inherit.
        order = rng.permutation(count)
        splits[name] = [twins[row] for row in order]
    return splits


def _check_options(
    protocol: str,
    ratio: float,
    rows: Sequence[int],
    distance: int,
    position: float | None,
) -> None:
    if not 0 <= ratio < 1:
        raise UsageError(
            rule="ratio must be a share in [0, 1)",
            got=ratio,
            fix="Give for example 0.9.",
        )
    # An odd number of rows cannot have as many of one label as of the other.
    if any(count % 2 or count < 2 for count in rows):
        raise UsageError(
            rule="the rows of a split must come in pairs, one of each label",
            got=rows,
            fix="Give even numbers, 2 or more.",
        )
    # Elsewhere a distance would be accepted and change nothing.
    if distance < 0 or (distance > 0 and protocol != "controlled"):
        raise UsageError(
            rule="distance must be 0 or more, and 0 except for the protocol controlled",
            got=distance,
            fix="Leave it out.",
        )
    if position is not None and not 0 <= position <= 1:
        raise UsageError(
            rule="position must be a share in [0, 1]",
            got=position,
            fix="Give for example 0.5.",
        )


def words_in(protocol: str) -> int:
    """Words of a text; nominal for `released`, whose texts differ."""
    lengths = {"controlled": CONTROLLED_WORDS, "released": RELEASED_WORDS, "paper": PAPER_WORDS}
    return lookup(lengths, protocol, "protocol")


# The order of the draws is part of every generator: another one gives other texts for a seed.


def _controlled(rng: Rng, spec: StressTextSpec) -> Twins:
    """Twins: the same 100 words in the same order but for the two related ones.

    These are exchanged, and so is the label.
    """
    noise = spec.noise_words(CONTROLLED_WORDS)
    pair = _pick(rng, PAIRS)
    negation = _pick(rng, NEGATIONS)
    # In front of the negation, so that it still stands before the word that it negates.
    gap = _draw(rng, FILLERS, spec.distance)
    around = CONTROLLED_WORDS - noise - len(pair) - len(negation) - len(gap)
    _require_room(around, CONTROLLED_WORDS - noise, spec)
    fillers = _draw(rng, FILLERS, around)
    # Where in the span the statement stands is no hint either.
    before = int(rng.integers(around + 1))
    # Among the distractors too, so that finding a negation is not finding the signal.
    distractors = _draw(rng, (*COMMON_WORDS, *MODIFIERS, "but", "and", "while"), noise)
    index = spec.signal_index(rng, noise)

    def text(affirmed: str, negated: str) -> str:
        statement = [affirmed, *gap, *negation, negated]
        signal = [*fillers[:before], *statement, *fillers[before:]]
        return " ".join([*distractors[:index], *signal, *distractors[index:]])

    first, second = pair
    first_affirmed = StressRow(text(first, second), 1)
    second_affirmed = StressRow(text(second, first), 0)
    return first_affirmed, second_affirmed


def _released(rng: Rng, spec: StressTextSpec) -> Twins:
    """The release's construction, its leak included.

    Label 0 has a modifier and ten words more than label 1. A text is floor(128 x ratio) words of
    noise, with context and noun, or context, modifier, ten fillers and noun, inserted at a random
    position. **Word count alone scores 1.000**, and bag-of-words nearly so: a high score here is no
    evidence of relational understanding.
    """

    def text(middle: Sequence[str]) -> str:
        noise = _draw(rng, COMMON_WORDS[:_RELEASED_NOISE], spec.noise_words(RELEASED_WORDS))
        context = _pick(rng, CONTEXTS).split()
        signal = [*context, *middle, _pick(rng, NOUNS)]
        return _insert(rng, spec, noise, signal)

    affirmed = StressRow(text([]), 1)
    # Drawn before the noise of the text that they stand in.
    modifier = _pick(rng, MODIFIERS)
    gap = _draw(rng, FILLERS, _RELEASED_GAP)
    return affirmed, StressRow(text([modifier, *gap]), 0)


def _paper(rng: Rng, spec: StressTextSpec) -> Twins:
    """Algorithm 2 of the paper: a template with its label among distractors.

    The template is padded with distractors to L_S = 256 - floor(256 x ratio), then the rest is
    added. The algorithm cuts a template longer than L_S, which could cut the negation off; here
    that is an error.
    """
    if not spec.vocabulary:
        raise UsageError(
            rule="the protocol paper needs the backbone's vocabulary for its distractors",
            got="no vocabulary",
            fix="Pass the words of its tokenizer (stress_words.whole_words).",
        )
    noise = spec.noise_words(PAPER_WORDS)

    def text(label: int) -> str:
        # Two different nouns: "keys but not keys" would have no label.
        x, y = rng.choice(len(NOUNS), 2, replace=False)
        template = _pick(rng, TEMPLATES)[1 - label]
        statement = template.format(x=NOUNS[x], y=NOUNS[y])
        signal = statement.split()
        padding = PAPER_WORDS - noise - len(signal)
        _require_room(padding, PAPER_WORDS - noise, spec)
        distractors = _draw(rng, spec.vocabulary, noise)
        signal += _draw(rng, spec.vocabulary, padding)
        return _insert(rng, spec, distractors, signal)

    affirmed = StressRow(text(1), 1)
    negated = StressRow(text(0), 0)
    return affirmed, negated


PROTOCOLS: dict[str, Generator] = {
    "controlled": _controlled,
    "released": _released,
    "paper": _paper,
}
"""Name of `--protocol` -> generator of one row of each label (`controlled`: twins)."""


def _require_room(spare: int, span: int, spec: StressTextSpec) -> None:
    """Raise UsageError where the signal needs more words than the distractors leave."""
    # Nothing is cut to fit: what is cut could be the negation.
    if spare < 0:
        raise UsageError(
            rule="the signal must fit into the words that the distractors leave",
            got=f"ratio {spec.ratio:g} leaves {span} words, {-spare} too few",
            fix="Give a smaller --ratio or distance.",
        )


def _pick(rng: Rng, table: Sequence[Item]) -> Item:
    return table[int(rng.integers(len(table)))]


def _draw(
    rng: Rng,
    words: Sequence[str],
    count: int,
) -> list[str]:
    indices = rng.integers(len(words), size=count)
    return [words[int(index)] for index in indices]


def _insert(
    rng: Rng,
    spec: StressTextSpec,
    noise: list[str],
    signal: list[str],
) -> str:
    index = spec.signal_index(rng, len(noise))
    return " ".join([*noise[:index], *signal, *noise[index:]])

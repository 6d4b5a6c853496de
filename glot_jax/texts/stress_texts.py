"""The stress test: does a pooler still see a short statement among many distractors? Three
protocols, and controls.

| protocol | words | label is decided by | length | bag-of-words | from |
| --- | --- | --- | --- | --- | --- |
| `controlled` | 100 | which of two related words is negated | exactly 0.5 | exactly 0.5 | ours |
| `released` | varying | a modifier: the word count | **1.000** | about 1.0 | the authors' code |
| `paper` | 256 | which of two words is negated | 0.5 | about 0.5 | paper B.4, Alg. 2 |

A score on `released` says nothing about relations between words, since the word count alone reaches
it. `controls` computes these baselines for the very texts that were generated, to be printed beside
every score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glot_jax.errors import lookup, require

CONTROLLED_WORDS = (
    100  # each is one token of the usual vocabularies, so all fit in 128 with the special tokens
)
RELEASED_WORDS = 128
PAPER_WORDS = 256
SPLITS = ("train", "validation", "test")


def _words(block: str) -> tuple[str, ...]:
    return tuple(block.split())


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

NEGATIONS = (("but", "not"), ("and", "never"), ("but", "without"), ("while", "excluding"))
"""`controlled`: what stands between the related words.

It affirms the word before it and negates the one after it.
"""

MODIFIERS = ("not", "never", "without", "excluding")

FILLERS = _words("""
the this that these those some here there now then also just still even again soon today
yesterday once often always later very quite rather perhaps maybe indeed about around
""")
"""Neutral words: they fill the signal span, and the gap in front of the negated noun of `released`.
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
"""Distractors of `controlled`; the first hundred are the noise of `released`."""

CONTEXTS = (
    "the box contains",
    "we could see",
    "he came with",
    "the shop sells",
    "the team needs",
    "they always bring",
)
NOUNS = (
    "keys",
    "reports",
    "apples",
    "letters",
    "tickets",
    "books",
    "coins",
    "photos",
    "candles",
    "tools",
)

# Each label's templates hold the same words, so a bag of words knows the label no better than
# chance.
TEMPLATES = (
    ("the file has {x} but not {y}", "the file has not {x} but {y}"),
    ("the box came with {x} yet without {y}", "the box came without {x} yet with {y}"),
    ("the report has some {x} and no {y}", "the report has no {x} and some {y}"),
    ("the shop always sells {x} and never {y}", "the shop never sells {x} and always {y}"),
)
"""`paper`: (label 1: {x} is affirmed, label 0: {x} is negated)."""


@dataclass(frozen=True)
class StressRow:
    """A text of space-separated lower-case words, and its label, 0 or 1."""

    text: str
    label: int


@dataclass(frozen=True)
class Recipe:
    """What a generator is given: the share of distractors, words to put between the related ones,
    the vocabulary, and where the signal stands."""

    ratio: float
    distance: int = 0
    vocabulary: tuple[str, ...] = ()
    position: float | None = None

    def place(self, rng: np.random.Generator, noise: int) -> int:
        """How many of `noise` distractors stand before the signal."""
        return (
            int(rng.integers(noise + 1)) if self.position is None else round(self.position * noise)
        )

    def noise_words(self, length: int) -> int:
        """floor(length x ratio), with 0.29 x 100 = 29 although its product in binary is a hair
        less.
        """
        return math.floor(length * self.ratio + 1e-9)


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
    """Texts of the splits train, validation and test, classes exactly balanced; the same arguments,
    the same texts.

    `ratio` is the share of distractor words in [0, 1); `vocabulary` holds the distractors of
    `paper`, which needs it; `distance` is the number of words inserted between the related words
    (`controlled` only); `position` is the share of the distractors that stand before the signal,
    None: any, at random. UsageError for a ratio that leaves the signal no room, for odd `rows`
    (labels come in pairs), for a distance that would do nothing, and for a position outside [0, 1].
    """
    generator = lookup(PROTOCOLS, protocol, "protocol")
    require(0 <= ratio < 1, "ratio is a share in [0, 1)", ratio, "Give for example 0.9.")
    odd = [count for count in rows if count % 2 or count < 2]
    require(
        not odd,
        "the rows of a split come in pairs, one of each label",
        rows,
        "Give even numbers, 2 or more.",
    )
    useful = distance >= 0 and (protocol == "controlled" or distance == 0)
    require(
        useful, "distance is 0 or more, for the protocol controlled only", distance, "Leave it out."
    )
    require(
        position is None or 0 <= position <= 1,
        "position is a place in [0, 1]",
        position,
        "Give for example 0.5.",
    )
    recipe = Recipe(ratio, distance, tuple(sorted(set(vocabulary or ()))), position)
    splits = {}
    for index, (name, count) in enumerate(zip(SPLITS, rows, strict=True)):
        # A stream per split: asking for more training rows leaves the test set as it was.
        rng = np.random.default_rng([seed, index])
        found = [row for _ in range(count // 2) for row in generator(rng, recipe)]
        splits[name] = [found[place] for place in rng.permutation(count)]
    return splits


def words_in(protocol: str) -> int:
    """Words of a text; nominal for `released`, whose texts differ."""
    lengths = {"controlled": CONTROLLED_WORDS, "released": RELEASED_WORDS, "paper": PAPER_WORDS}
    return lookup(lengths, protocol, "protocol")


def _controlled(rng: np.random.Generator, recipe: Recipe) -> tuple[StressRow, StressRow]:
    """Twins: the same 100 words in the same places, only the two related ones exchanged, and so the
    label.
    """
    noise = recipe.noise_words(CONTROLLED_WORDS)
    pair, negation = _pick(rng, PAIRS), _pick(rng, NEGATIONS)
    gap = _draw(rng, FILLERS, recipe.distance)
    around = CONTROLLED_WORDS - noise - len(pair) - len(negation) - len(gap)
    _require_room(around, CONTROLLED_WORDS - noise, recipe)
    fillers = _draw(rng, FILLERS, around)
    before = int(rng.integers(around + 1))
    # Among the distractors too, so that finding a negation is not finding the signal.
    distractors = _draw(rng, (*COMMON_WORDS, *MODIFIERS, "but", "and", "while"), noise)
    place = recipe.place(rng, noise)

    def text(affirmed: str, negated: str) -> str:
        signal = [*fillers[:before], affirmed, *gap, *negation, negated, *fillers[before:]]
        return " ".join([*distractors[:place], *signal, *distractors[place:]])

    first, second = pair
    return StressRow(text(first, second), 1), StressRow(text(second, first), 0)


def _released(rng: np.random.Generator, recipe: Recipe) -> tuple[StressRow, StressRow]:
    """The release's construction, leak included: label 0 has a modifier and ten words more than
    label 1.

    A text is floor(128 x ratio) words of noise, with context and noun, or context, modifier, ten
    fillers and noun, inserted at a random position. **Word count alone scores 1.000**, and
    bag-of-words nearly so: a high score here is no evidence of relational understanding.
    """

    def text(*middle: str) -> str:
        noise = _draw(rng, COMMON_WORDS[:100], recipe.noise_words(RELEASED_WORDS))
        return _insert(
            rng, recipe, noise, [*_pick(rng, CONTEXTS).split(), *middle, _pick(rng, NOUNS)]
        )

    return StressRow(text(), 1), StressRow(text(_pick(rng, MODIFIERS), *_draw(rng, FILLERS, 10)), 0)


def _paper(rng: np.random.Generator, recipe: Recipe) -> tuple[StressRow, StressRow]:
    """Algorithm 2: a template with its label, padded with distractors to L_S = 256 - floor(256 x
    ratio), then the rest.

    The algorithm cuts a template longer than L_S, which could cut the negation off; here that is an
    error.
    """
    require(
        len(recipe.vocabulary) > 0,
        "the protocol paper draws its distractors from the backbone's vocabulary",
        "no vocabulary",
        "Pass the words of its tokenizer (stress_texts.whole_words).",
    )
    noise = recipe.noise_words(PAPER_WORDS)

    def text(label: int) -> str:
        x, y = rng.choice(len(NOUNS), 2, replace=False)
        signal = _pick(rng, TEMPLATES)[1 - label].format(x=NOUNS[x], y=NOUNS[y]).split()
        padding = PAPER_WORDS - noise - len(signal)
        _require_room(padding, PAPER_WORDS - noise, recipe)
        return _insert(
            rng,
            recipe,
            _draw(rng, recipe.vocabulary, noise),
            [*signal, *_draw(rng, recipe.vocabulary, padding)],
        )

    return StressRow(text(1), 1), StressRow(text(0), 0)


PROTOCOLS: dict[str, Callable[[np.random.Generator, Recipe], tuple[StressRow, StressRow]]] = {
    "controlled": _controlled,
    "released": _released,
    "paper": _paper,
}
"""Name of `--protocol` -> generator of one row of each label (`controlled`: twins)."""


def _require_room(spare: int, span: int, recipe: Recipe) -> None:
    require(
        spare >= 0,
        "the signal fits into the words that the distractors leave",
        f"ratio {recipe.ratio:g} leaves {span} words, {-spare} too few",
        "Give a smaller --ratio or distance.",
    )


def _pick(rng: np.random.Generator, table: Sequence[Any]) -> Any:
    return table[int(rng.integers(len(table)))]


def _draw(rng: np.random.Generator, words: tuple[str, ...], count: int) -> list[str]:
    return [words[index] for index in rng.integers(len(words), size=count)]


def _insert(rng: np.random.Generator, recipe: Recipe, noise: list[str], signal: list[str]) -> str:
    place = recipe.place(rng, len(noise))
    return " ".join([*noise[:place], *signal, *noise[place:]])


def whole_words(tokens: Iterable[str]) -> list[str]:
    """The vocabulary entries that are words: lower-case ASCII letters, three or more, sorted, each
    once.

    Of a WordPiece vocabulary (some entries begin with ##) those without ##; of a byte-level or
    SentencePiece one those that begin a word, marked by Ġ or ▁, which is taken off; of one without
    marks all.

    >>> whole_words(["cat", "##dog", "[CLS]", "an"]), whole_words(["Ġcat", "dog", "▁bird", "Ġan"])
    (['cat'], ['bird', 'cat'])
    """
    tokens = list(tokens)
    if not any(token.startswith("##") for token in tokens):
        # Some vocabularies hold a bare mark as a character of its own.
        tokens = [token[1:] for token in tokens if len(token) > 1 and token[0] in "Ġ▁"] or tokens
    return sorted({token for token in tokens if re.fullmatch("[a-z]{3,}", token)})


# --------------------------------------------------------------------------------------------------
# Controls: what the label gives away without any relation between words


def order_feature(words: Sequence[str]) -> int | None:
    """1 if the first-listed member of a pair of `PAIRS` stands before the other, 0 if after it,
    None if one is missing.

    `words` are the words or tokens of a `controlled` text: given a truncated text it tells whether
    the signal is left.
    """
    for first, second in PAIRS:
        if first in words and second in words:
            return int(words.index(first) < words.index(second))
    return None


def length_feature(rows: Sequence[StressRow]) -> np.ndarray:
    """Word counts [rows, 1] int64."""
    return np.array([[len(row.text.split())] for row in rows], dtype=np.int64)


def controls(
    protocol: str,
    splits: Mapping[str, Sequence[StressRow]],
    seed: int,
    kept: Sequence[str] | None = None,
) -> dict[str, float]:
    """Test accuracies of `length` (decision tree), `bag-of-words` (logistic regression), and for
    `controlled` `order`.

    Fitted on the train split. On twins the first two are 0.5 exactly: both twins have the same
    features, so both are given the same class, and it is right for one of them. `kept` is what
    truncation leaves of the test texts: what `order` reads, so that it scores 1.0 only if every
    text still tells its label.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    train, test = splits["train"], splits["test"]
    expected, truth = (np.array([row.label for row in part]) for part in (train, test))
    tree = DecisionTreeClassifier(max_depth=3, random_state=seed).fit(
        length_feature(train), expected
    )
    bag, words = (
        CountVectorizer(token_pattern=r"\S+"),
        LogisticRegression(max_iter=1000, random_state=seed),
    )
    words.fit(bag.fit_transform([row.text for row in train]), expected)
    found = {
        "length": tree.predict(length_feature(test)),
        "bag-of-words": words.predict(bag.transform([row.text for row in test])),
    }
    if protocol == "controlled":
        found["order"] = np.array(
            [order_feature(text.split()) for text in kept or [row.text for row in test]],
            dtype=float,
        )  # None: NaN, wrong
    return {name: float(np.mean(predicted == truth)) for name, predicted in found.items()}

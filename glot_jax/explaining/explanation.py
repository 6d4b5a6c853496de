"""What an explanation holds. Needs neither jax nor a model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

SCOPE = (
    "This explains the head, not the backbone: the state of a token already holds what the frozen"
    " model read around it."
)
"""Said with every explanation."""


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A token that another one listens to."""

    position: int
    """Of the neighbour, in its text."""
    cosine: float
    """Of the two states that the graph compares."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """How much lower the explained score is without something: positive speaks for it."""

    score: float
    """Of a class: its log-odds. Otherwise: the predicted score, on the task's own scale."""
    probability: float | None
    """Of a class: its probability. None for scores."""


NO_EFFECT = Effect(0.0, None)


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a text, and what the score is without it."""

    text: str
    start: int
    """Its first character in the text."""
    effect: Effect


@dataclasses.dataclass(frozen=True)
class TextExplanation:
    """The tokens of one text: how they are linked, weighed, and what each is worth."""

    text: str
    tokens: tuple[str, ...]
    """As the tokenizer decodes them one by one, special tokens included."""
    takes_part: Bool[np.ndarray, " tokens"]
    """False: left out before graph and pooling, as an attention sink or a skipped first token."""
    weights: Float[np.ndarray, " tokens"]
    """Readout weights."""
    links: Bool[np.ndarray, "tokens tokens"]
    """[i, j]: token i listens to token j."""
    cosines: Float[np.ndarray, "tokens tokens"]
    """Of the states that the graph compares, float64."""
    effects: tuple[Effect, ...]
    """Of each token, taken out before graph and pooling."""
    words: tuple[Word, ...] | None
    """Of each word, taken out before the backbone reads the text; None unless asked for."""

    @property
    def degrees(self) -> np.ndarray:
        """Other tokens that each token listens to, int64 [tokens]."""
        # A token always listens to itself under most rules: that loop tells nothing.
        loops = np.diagonal(self.links)
        return self.links.sum(axis=1) - loops

    def neighbours(self, token: int, most: int = 5) -> list[Neighbour]:
        """The tokens that one listens to, the most similar first, itself left out."""
        others = [other for other in np.flatnonzero(self.links[token]) if other != token]
        others.sort(key=lambda other: -self.cosines[token, other])
        return [Neighbour(int(other), float(self.cosines[token, other])) for other in others[:most]]

    def strongest(self, most: int = 5) -> list[int]:
        """Positions of the tokens that speak most for the explained score, the first of equals."""
        scores = [effect.score for effect in self.effects]
        # Stable: equal tokens come in the order of the text.
        order = np.argsort(-np.array(scores), kind="stable")
        chosen = [int(token) for token in order if self.takes_part[token]]
        return chosen[:most]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the cosines of all pairs."""
        degrees = self.degrees
        tokens = []
        for position, token in enumerate(self.tokens):
            neighbours = []
            for neighbour in self.neighbours(position):
                name = self.tokens[neighbour.position]
                # Named as well as numbered: whoever reads the JSON has no list of tokens beside it.
                neighbours.append({**dataclasses.asdict(neighbour), "token": name})
            tokens.append(
                {
                    "position": position,
                    "token": token,
                    "takes_part": bool(self.takes_part[position]),
                    "weight": float(self.weights[position]),
                    "degree": int(degrees[position]),
                    "effect": dataclasses.asdict(self.effects[position]),
                    "neighbours": neighbours,
                }
            )
        values: dict[str, Any] = {"text": self.text, "tokens": tokens}
        if self.words is not None:
            values["words"] = [dataclasses.asdict(word) for word in self.words]
        return values


@dataclasses.dataclass(frozen=True)
class HeadFacts:
    """What of a head decides how its explanation is read."""

    run: str
    """Name of the run."""
    backbone: str
    pooler: str
    graph: str
    """Rule that links tokens."""
    tau: float | None
    """Threshold of the rule; None where it has none."""
    reads_graph: bool
    """Whether the pooler looks at the edges."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a head says of one row, and which tokens of its texts decided it."""

    head: HeadFacts
    prediction: str | float
    """Name of the class, or the score."""
    explained: str | None
    """Class whose score the effects are of: the predicted one unless another was asked for. None
    for scores.
    """
    probabilities: dict[str, float] | None
    """Of each class; None for scores."""
    texts: tuple[TextExplanation, ...]
    """One of each text of the row."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "scope": SCOPE,
            "head": dataclasses.asdict(self.head),
            "prediction": self.prediction,
            "explained": self.explained,
            "probabilities": self.probabilities,
            "texts": [text.to_json() for text in self.texts],
        }

"""A made-up explanation, of a text of one's choice."""

from __future__ import annotations

import numpy as np

from glot_jax.explaining.explanation import Effect, Explanation, HeadFacts, TextExplanation, Word


def explanation(text: str = "a cat sat", tau: float = 0.5) -> Explanation:
    """Three tokens: the first two are linked above a cosine of .6, the last is alike to none."""
    tokens = (text, "cat", "sat")
    cosines = np.array([[1, 0.6, -0.2], [0.6, 1, 0.1], [-0.2, 0.1, 1]])
    effects = (Effect(1.5, 0.2), Effect(-0.5, -0.1), Effect(0.0, 0.0))
    return Explanation(
        head=HeadFacts(text, text, "glot", "threshold", tau, reads_graph=True),
        prediction=text,
        explained=text,
        probabilities={text: 0.75, "other": 0.25},
        texts=(
            TextExplanation(
                text=text,
                tokens=tokens,
                takes_part=np.array([True, True, False]),
                weights=np.array([0.5, 0.5, 0.0]),
                links=cosines > tau,
                cosines=cosines,
                effects=effects,
                words=(Word(text, 0, effects[0]),),
            ),
        ),
    )

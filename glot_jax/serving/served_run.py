"""A run as it is served: vectors and answers of texts, on one loaded backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from glot_jax.batches.padded_lengths import padded_lengths
from glot_jax.config.serve import ServeConfig
from glot_jax.errors import UsageError
from glot_jax.inference.answering import Answers, require_answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.loading import load_backbones, load_head
from glot_jax.inference.predictor import Predictor
from glot_jax.texts.tasks import TaskSpec

Row = tuple[str, ...]
"""The texts of a row, in the order of the task's columns."""


@dataclasses.dataclass(frozen=True)
class ServedRun:
    """What answers requests. One thread at a time computes; any may tokenise."""

    name: str
    """Of the model, in requests and answers."""
    encoder: SentenceEncoder
    predictor: Predictor | None
    """None for a run that has vectors alone."""
    batch_size: int
    normalize: bool

    @classmethod
    def load(cls, config: ServeConfig) -> ServedRun:
        """The run of some settings, with its backbone.

        Raises:
            UsageError: no run, no checkpoint, or a backbone that is gone.
        """
        head = load_head(config.run, config.checkpoint)
        (backbone,) = load_backbones([head], config.frozen)
        encoder = SentenceEncoder.from_head(head, backbone)
        # A run that ranks, or has no labels, has vectors all the same.
        predictor = None
        if _answers(encoder.model.spec.task):
            # On the same encoder: what is compiled for one route serves the other.
            predictor = Predictor([encoder])
        return cls(
            name=config.name or config.run.resolve().name,
            encoder=encoder,
            predictor=predictor,
            batch_size=config.batch_size,
            normalize=config.normalize,
        )

    @property
    def task(self) -> TaskSpec:
        """What the run was trained on."""
        return self.encoder.model.spec.task

    @property
    def max_length(self) -> int:
        """Tokens to which a text is cut."""
        backbone = self.encoder.backbone
        assert backbone is not None  # `load` gave it one
        return backbone.max_length

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones included, after cutting."""
        backbone = self.encoder.backbone
        assert backbone is not None  # `load` gave it one
        # Cut already: what is limited is the work that a request makes.
        return [len(ids) for ids in backbone.tokenize(texts).ids]

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        """What `glot encode` writes for some texts."""
        return self.encoder.encode(texts, self.batch_size, self.normalize)

    def answers(self, rows: Sequence[Row]) -> Answers:
        """What `glot predict` writes for some rows."""
        assert self.predictor is not None  # the route is closed without one
        return self.predictor.predict(rows, self.batch_size)

    def warm_up(self, progress: Callable[[int, int], bool]) -> None:
        """Compile every shape that a text can have, and run the backbone once.

        Args:
            progress: called with the shapes that are done and those there are; False ends it.
        """
        # All that can come: a client must never wait for a compiler.
        lengths = padded_lengths(self.max_length)
        for done, length in enumerate(lengths):
            # One at a time, so that a server that is told to end does so within seconds.
            if not progress(done, len(lengths)):
                return
            self.encoder.warm_up([length], self.batch_size)
            if self.predictor is not None:
                self.predictor.warm_up([length], self.batch_size)
        # torch as well makes plans when it first computes.
        self.vectors(["a text"])
        progress(len(lengths), len(lengths))


def _answers(task: TaskSpec) -> bool:
    try:
        require_answers([task])
    except UsageError:
        return False
    return True

"""`explain`: which tokens decided what a trained run says of a text.

A readout weight tells how much of a token's refined state is in the vector, which often names
[SEP]. What a token is worth is measured: it is taken out, and the score is computed again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp
import numpy as np

from glot_jax.config.runs import BackboneChoice
from glot_jax.errors import UsageError, lookup
from glot_jax.explaining.explanation import (
    NO_EFFECT,
    Effect,
    Explanation,
    HeadFacts,
    TextExplanation,
    Word,
)
from glot_jax.explaining.taken_out import LookedAt, MaskedPooling
from glot_jax.explaining.words import without, word_spans
from glot_jax.graphs.rules import RULES
from glot_jax.inference.answering import Answers, Rows
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor, head_outputs
from glot_jax.inference.stored_rounding import stored_states
from glot_jax.pooling import POOLERS
from glot_jax.pooling.pooler import Pooler
from glot_jax.run_folders.run_folder import CheckpointName

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone

Occlude = Literal["tokens", "words"]

# Probabilities nearer to 0 or 1 tell no more of a token than these do.
_LEAST = 1e-12


@dataclasses.dataclass(frozen=True)
class _Part:
    """A text as the head sees it."""

    tokens: tuple[str, ...]
    chosen: np.ndarray
    """bool [tokens]: those that take part."""
    kept: np.ndarray
    """States of these, which stand for the text: the others are padding."""


class Explainer:
    """Explains what one trained head says.

        explainer = Explainer.load("runs/cola-glot")
        (explanation,) = explainer.explain(["They drank the pub dry."])
        [explanation.texts[0].tokens[i] for i in explanation.texts[0].strongest()]

    Args:
        predictor: of one run.

    Raises:
        UsageError: a predictor of several runs, or one without a backbone.
    """

    def __init__(self, predictor: Predictor):
        if len(predictor.members) != 1:
            raise UsageError(
                rule="an explanation must be of one run",
                got=f"{len(predictor.members)}",
                fix="Explain them one by one.",
            )
        self.predictor = predictor
        self._encoder: SentenceEncoder = predictor.members[0]
        if self._encoder.backbone is None:
            raise UsageError(
                rule="texts need a backbone",
                got="an encoder of states",
                fix="Load the predictor from a run.",
            )
        self._backbone: Backbone = self._encoder.backbone
        # Made once: it keeps a program for each length.
        self._pooling = MaskedPooling(self._encoder)

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        choice: BackboneChoice | None = None,
        *,
        checkpoint: CheckpointName = "best",
        plugins: Iterable[str | ModuleType] = (),
    ) -> Explainer:
        """The explainer of a run folder; arguments and errors are those of `Predictor.load`."""
        return cls(Predictor.load([run], choice, checkpoint=checkpoint, plugins=plugins))

    def explain(
        self,
        rows: Rows,
        *,
        occlude: Occlude = "tokens",
        class_name: str | None = None,
    ) -> list[Explanation]:
        """Explain what is predicted for some rows, in their order.

        Args:
            rows: texts, or the texts of each row.
            occlude: "words" also runs the backbone without each word, once a word.
            class_name: class whose score is explained. Default: the predicted one of each row.

        Raises:
            UsageError: as for `Predictor.predict`; a class that the run does not know, or one
                named where scores are predicted.
        """
        return list(self.explanations(rows, occlude=occlude, class_name=class_name))

    def explanations(
        self,
        rows: Rows,
        *,
        occlude: Occlude = "tokens",
        class_name: str | None = None,
    ) -> Iterator[Explanation]:
        """Yield what `explain` returns, one by one: cosines of many long texts are large."""
        target = self._class_index(class_name)
        answers = self.predictor.predict(rows)
        for number, row in enumerate(rows):
            texts = (row,) if isinstance(row, str) else tuple(row)
            chosen = target
            if chosen is None and answers.shares is not None:
                # Of several classes a row the likeliest, whether it is predicted or not.
                chosen = int(answers.shares[number].argmax())
            yield self._explain_row(texts, answers, number, chosen, occlude)

    def _class_index(self, name: str | None) -> int | None:
        if name is None:
            return None
        classes = self.predictor.classes
        if not classes:
            raise UsageError(
                rule="a class can be explained by a run that was trained on classes",
                got=f"{name!r}, of a run that predicts scores",
                fix="Leave it out.",
            )
        return lookup({known: index for index, known in enumerate(classes)}, name, "class")

    def _explain_row(
        self,
        texts: tuple[str, ...],
        answers: Answers,
        number: int,
        target: int | None,
        occlude: Occlude,
    ) -> Explanation:
        classes = self.predictor.classes
        probabilities = None
        if answers.shares is not None:
            shares = answers.shares[number].tolist()
            probabilities = dict(zip(classes, shares, strict=True))
        return Explanation(
            head=self._facts(),
            prediction=self._prediction(answers.values[number]),
            explained=None if target is None else classes[target],
            probabilities=probabilities,
            texts=self._explain_texts(texts, target, occlude),
        )

    def _prediction(self, value: np.ndarray) -> str | float:
        """A class by its name, the names of several, or a score."""
        classes = self.predictor.classes
        if not classes:
            return float(value)
        if value.ndim == 0:
            return classes[int(value)]
        separator = self.predictor.task.label_separator or ", "
        return separator.join(classes[index] for index in np.flatnonzero(value))

    def answers_without(
        self,
        row: str | Sequence[str],
        taken_out: Sequence[Sequence[int]],
        *,
        role: int = 0,
    ) -> Answers:
        """What the head says of a row when several tokens are taken out of one of its texts.

        Args:
            row: a text, or the texts of a row.
            taken_out: positions of the tokens of each answer, special tokens counted.
            role: which text of the row they are of.
        """
        texts = (row,) if isinstance(row, str) else tuple(row)
        parts = [self._read(text) for text in texts]
        part = parts[role]
        masks = np.ones((len(taken_out), len(part.chosen)), bool)
        for mask, tokens in zip(masks, taken_out, strict=True):
            mask[list(tokens)] = False
        return self._answers_under(parts, role, masks[:, part.chosen])

    def _explain_texts(
        self, texts: tuple[str, ...], target: int | None, occlude: Occlude
    ) -> tuple[TextExplanation, ...]:
        parts = [self._read(text) for text in texts]
        explained = []
        for role, part in enumerate(parts):
            count = len(part.kept)
            # The row as it is, and then without each of its tokens.
            masks = np.concatenate([np.ones((1, count), bool), ~np.eye(count, dtype=bool)])
            effects = _effects(self._answers_under(parts, role, masks), target)
            words = None
            if occlude == "words":
                words = self._word_effects(texts, role, target)
            explained.append(self._of_text(texts[role], part, effects, words))
        return tuple(explained)

    def _read(self, text: str) -> _Part:
        # One text at a time: what is explained is the text alone.
        (ids,) = self._backbone.tokenize([text]).ids
        states = self._states(ids)
        # Sinks and skipped tokens go first, as they do in a forward pass: a token that is taken out
        # afterwards must not change which others are left out.
        chosen = self._takes_part(states)
        tokens = tuple(self._decoded(token) for token in ids)
        return _Part(tokens, chosen, states[chosen])

    def _answers_under(self, parts: Sequence[_Part], role: int, masks: np.ndarray) -> Answers:
        """Answers for a row under masks [variants, kept tokens] of one of its texts."""
        variants = np.zeros((len(parts), len(masks), self._encoder.dim), np.float32)
        for number, part in enumerate(parts):
            # The other texts of a pair stay as they are.
            whole = np.ones((1, len(part.kept)), bool)
            variants[number] = self._pooling.vectors(part.kept, masks if number == role else whole)
        return self.predictor.answers_of([head_outputs(self._encoder, variants)])

    def _states(self, ids: Sequence[int]) -> np.ndarray:
        """[tokens, dim] of a text, or [tokens, layers, dim]; none of a text without a token."""
        layers = self._encoder.layers
        shape = (self._encoder.model.stem.dim,)
        if self._encoder.mixed:
            shape = (len(layers), *shape)
        if not ids:
            return np.zeros((0, *shape), np.float32)
        by_layer = stored_states(self._backbone, [ids], self._encoder.recipe.storage_dtype)
        if self._encoder.mixed:
            return np.stack([by_layer[layer] for layer in layers], axis=1)
        return by_layer[layers[0]]

    def _decoded(self, token: int) -> str:
        # Not the vocabulary's own spelling: byte-level ones hold no letters beyond ASCII.
        return self._backbone.tokenizer.decode([token], clean_up_tokenization_spaces=False)

    def _takes_part(self, states: np.ndarray) -> np.ndarray:
        """The tokens of a text that graph and pooling see, as bool [tokens]."""
        mask = np.ones((1, len(states)), bool)
        if not len(states):
            return mask[0]
        choice = self._encoder.model.stem.tokens
        return np.asarray(choice(jnp.asarray(states)[None], jnp.asarray(mask)))[0]

    def _word_effects(
        self, texts: tuple[str, ...], role: int, target: int | None
    ) -> tuple[Word, ...]:
        text = texts[role]
        spans = word_spans(text)
        # The whole row first, so that both scores come from one batch.
        rows = [texts]
        for span in spans:
            rows.append((*texts[:role], without(text, span), *texts[role + 1 :]))
        effects = _effects(self.predictor.predict(rows), target)
        words = []
        for span, effect in zip(spans, effects, strict=True):
            words.append(Word(text[span.start : span.end], span.start, effect))
        return tuple(words)

    def _of_text(
        self,
        text: str,
        part: _Part,
        effects: Sequence[Effect],
        words: tuple[Word, ...] | None,
    ) -> TextExplanation:
        count = len(part.tokens)
        weights = np.zeros(count)
        links = np.zeros((count, count), bool)
        compared = np.zeros((count, 1))
        of_all = [NO_EFFECT] * count
        if len(part.kept):
            positions = np.flatnonzero(part.chosen)
            inside = self._pooling.look(part.kept)
            weights[positions] = inside.weights
            links[np.ix_(positions, positions)] = inside.links
            compared = _compared(inside, positions, count)
            for position, effect in zip(positions, effects, strict=True):
                of_all[position] = effect
        return TextExplanation(
            text=text,
            tokens=part.tokens,
            takes_part=part.chosen,
            weights=weights,
            links=links,
            cosines=_cosines(compared),
            effects=tuple(of_all),
            words=words,
        )

    def _facts(self) -> HeadFacts:
        model = self._encoder.model
        stem = model.stem
        config = stem.config
        tau = None
        if "tau" in RULES[config.graph].reads:
            tau = float(stem.options().tau)
        return HeadFacts(
            run=str(self._encoder.fingerprint.get("run", "")),
            backbone=self._encoder.recipe.backbone_name or "",
            pooler=_name_of(type(model.pooler)),
            graph=config.graph,
            tau=tau,
            reads_graph=model.pooler.uses_edges,
        )


def _name_of(pooler: type[Pooler]) -> str:
    """The name that --pooler takes."""
    for name, registered in POOLERS.items():
        if registered is pooler:
            return name
    return pooler.__name__


def _effects(answers: Answers, target: int | None) -> list[Effect]:
    """What is missing from the first answer in each of the others."""
    if answers.shares is None or target is None:
        scores = np.asarray(answers.values, np.float64)
        return [Effect(float(drop), None) for drop in scores[0] - scores[1:]]
    shares = answers.shares[:, target]
    # Log-odds and not the probability alone: near 1 that hardly moves whatever is taken out.
    within = np.clip(shares, _LEAST, 1 - _LEAST)
    odds = np.log(within) - np.log1p(-within)
    drops = zip(odds[0] - odds[1:], shares[0] - shares[1:], strict=True)
    return [Effect(float(score), float(probability)) for score, probability in drops]


def _compared(inside: LookedAt, positions: np.ndarray, count: int) -> np.ndarray:
    """The states that the graph compares; zeros for tokens that it does not see."""
    compared = np.zeros((count, inside.compared.shape[1]))
    compared[positions] = inside.compared
    return compared


def _cosines(states: np.ndarray) -> np.ndarray:
    """Cosines [tokens, tokens] in float64; a zero vector is near nothing."""
    norms = np.linalg.norm(states, axis=1, keepdims=True)
    unit = states / np.where(norms > 0, norms, 1)
    return unit @ unit.T


def explain(
    run: str | os.PathLike[str],
    rows: Rows,
    *,
    occlude: Occlude = "tokens",
    class_name: str | None = None,
    backbone: str | None = None,
    device: str = "auto",
    checkpoint: CheckpointName = "best",
    plugins: Iterable[str | ModuleType] = (),
) -> list[Explanation]:
    """Which tokens decided what a run says of some rows: `glot explain` from Python.

    Whoever asks more than once keeps an `Explainer`.

    Args:
        run: run folder.
        rows: texts, or the texts of each row.
        occlude: "words" also runs the backbone without each word.
        class_name: class whose score is explained. Default: the predicted one of each row.
        backbone: where the frozen model lies, if the run knows it only by the name of a folder.
        device: torch device of the backbone.
        checkpoint: "best" or "last".
        plugins: modules, or their names, with parts that a run has. Their code is run.

    Raises:
        UsageError: as for `Explainer.load` and `Explainer.explain`.
    """
    choice = BackboneChoice(backbone, device)
    explainer = Explainer.load(run, choice, checkpoint=checkpoint, plugins=plugins)
    return explainer.explain(rows, occlude=occlude, class_name=class_name)

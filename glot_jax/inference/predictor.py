"""Answers of trained runs for new texts: a class with probabilities, or a score."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from glot_jax.batches.text_batches import forward_passes, token_windows
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import shown
from glot_jax.inference.answering import (
    Answers,
    Rows,
    require_answers,
    require_list,
    require_whole,
    rows_in,
)
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.loading import BackboneChoice, load_backbones, load_head
from glot_jax.inference.stored_rounding import read_dtypes, stored_states
from glot_jax.objectives.probabilities import LINKS, predicted, probabilities
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.texts.tasks import TaskSpec

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone


class Predictor:
    """Trained heads on frozen backbones, which answer for rows of texts.

        predictor = Predictor.load(["runs/cola-glot"])
        answers = predictor.predict(["a sentence", "another one"])
        [predictor.classes[index] for index in answers.values]

    States are rounded as they were when the run was trained, so that a text is answered as
    `evaluate_run` answers it from a store. Several runs answer together: their probabilities, or
    scores, are averaged.

    Args:
        members: encoders of runs on the same task.

    Raises:
        UsageError: none, tasks that differ, or a task that ranks texts.
    """

    def __init__(self, members: Sequence[SentenceEncoder]):
        self.members = tuple(members)
        self.task: TaskSpec = require_answers([member.model.spec.task for member in members])

    @classmethod
    def load(
        cls,
        runs: Sequence[str | os.PathLike[str]],
        choice: BackboneChoice | None = None,
        *,
        checkpoint: CheckpointName = "best",
        plugins: Iterable[str | ModuleType] = (),
    ) -> Predictor:
        """The predictor of some run folders, which needs no store.

        Args:
            runs: run folders; those of one backbone share it.
            choice: where the backbone lies and runs. Default: as the runs name it.
            checkpoint: "best" or "last".
            plugins: modules, or their names, with parts that a run has. Their code is run.

        Raises:
            UsageError: no run, no checkpoint, tasks that differ, a plugin that was not loaded, or
                a backbone that is gone.
        """
        plugins = list(plugins)
        heads = [load_head(run, checkpoint, plugins) for run in runs]
        backbones = load_backbones(heads, choice or BackboneChoice())
        members = []
        for head, backbone in zip(heads, backbones, strict=True):
            members.append(SentenceEncoder.from_head(head, backbone))
        return cls(members)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities; empty for scores."""
        return self.task.classes

    def warm_up(self, lengths: Iterable[int], batch_size: int = 32) -> int:
        """Compile what texts of some lengths need, before the first of them comes.

        Args:
            lengths: tokens of texts, special ones included.
            batch_size: what `predict` will be called with.

        Returns:
            Executables that this call compiled.

        Raises:
            UsageError: as for `SentenceEncoder.warm_up`.
        """
        lengths = list(lengths)
        compiled = 0
        for member in self.members:
            dtypes = read_dtypes(member.recipe.storage_dtype)
            compiled += member.warm_up(lengths, batch_size, dtypes)
        return compiled

    def predict(self, rows: Rows, batch_size: int = 32) -> Answers:
        """Answers for some rows, in their order.

        Args:
            rows: texts: a list of strings or of pairs, or a Series or DataFrame of pandas.
            batch_size: texts that are pooled at a time, as for `SentenceEncoder.encode`.

        Raises:
            UsageError: one string alone, something that is not a string or holds half of a
                character, or a row of another number of texts than the task has.
        """
        by_role = self._by_role(rows)
        # Each text once: pairs share theirs.
        texts = list(dict.fromkeys(text for role in by_role for text in role))
        number_of = {text: number for number, text in enumerate(texts)}
        index = [[number_of[text] for text in role] for role in by_role]
        by_member = []
        for vectors in self._vectors(texts, batch_size):
            by_member.append(vectors[np.array(index, np.int64)])
        return self.answer_vectors(by_member)

    def answer_vectors(self, pooled: Sequence[np.ndarray]) -> Answers:
        """Answers for some rows, from the vectors of their texts.

        Args:
            pooled: float32 [roles, rows, dim] of each member, as its `encode_states` gives them.
        """
        outputs = []
        for member, vectors in zip(self.members, pooled, strict=True):
            outputs.append(head_outputs(member, vectors))
        return self.answers_of(outputs)

    def _by_role(self, rows: Rows) -> list[list[str]]:
        require_list(rows)
        count = len(self.task.roles)
        by_role: list[list[str]] = [[] for _ in range(count)]
        for number, row in enumerate(rows_in(rows)):
            texts = _texts_of(row, number)
            if len(texts) != count:
                raise UsageError(
                    rule=f"a row of task {self.task.name} must have {count} texts:"
                    f" {', '.join(self.task.text_columns)}",
                    got=f"{len(texts)} in row {number}: {shown(row)}",
                    fix="Give as many texts a row as the run was trained on.",
                )
            for role, text in zip(by_role, texts, strict=True):
                if not isinstance(text, str):
                    raise _no_text(text, number)
                require_whole(text, number)
                role.append(text)
        return by_role

    def _vectors(self, texts: Sequence[str], batch_size: int) -> list[np.ndarray]:
        """Vectors [texts, dim] of every member; zeros for a text without a token."""
        vectors = [np.zeros((len(texts), member.dim), np.float32) for member in self.members]
        # What the members share is computed once: their backbone, in the dtype of their stores.
        sharers: dict[tuple[Backbone, str], list[int]] = {}
        for number, member in enumerate(self.members):
            assert member.backbone is not None  # `load` gave every member one
            key = (member.backbone, member.recipe.storage_dtype)
            sharers.setdefault(key, []).append(number)
        for (backbone, storage_dtype), numbers in sharers.items():
            # Others are those of states that float16 cannot hold.
            usual_dtype = read_dtypes(storage_dtype)[0]
            for batches in token_windows(backbone, texts, batch_size):
                for number in numbers:
                    self.members[number].compile_ahead(batches, batch_size, usual_dtype)
                for shared in forward_passes(batches):
                    ids = [text for _, of_batch in shared for text in of_batch]
                    states = stored_states(backbone, ids, storage_dtype)
                    for number in numbers:
                        member = self.members[number]
                        member.pool_batches(states, shared, batch_size, vectors[number])
        return vectors

    def answers_of(self, outputs: Sequence[np.ndarray]) -> Answers:
        """Answers for rows, from what the head of each member gives for them.

        Args:
            outputs: [rows, ...] of every member, in their order.
        """
        if self.task.label_kind in LINKS:
            by_member = []
            for member, logits in zip(self.members, outputs, strict=True):
                self._require_logits(member, logits)
                by_member.append(probabilities(logits, self.task, member.temperature))
            shares = np.mean(by_member, axis=0)
            return Answers(predicted(shares, self.task), shares)
        scores = []
        for member, values in zip(self.members, outputs, strict=True):
            objective = member.model.objective
            assert objective is not None  # a task with scores has one
            scores.append(objective.predict(values))
        return Answers(np.mean(scores, axis=0), None)

    def _require_logits(self, member: SentenceEncoder, outputs: np.ndarray) -> None:
        """Require what a softmax makes probabilities of: objectives of plugins may give others."""
        if outputs.ndim == 2 and outputs.shape[1] == len(self.classes):
            return
        # A plugin names its objective by its class.
        kind = type(member.model.objective).__name__
        raise UsageError(
            rule=f"probabilities need logits [rows, {len(self.classes)}], one for each class",
            got=f"outputs {list(outputs.shape)} of the objective {kind}",
            fix="Ask an objective whose head gives logits, or read encode's vectors.",
        )


def _texts_of(row: object, number: int) -> list[object]:
    """The texts of a row, which may be one text."""
    if isinstance(row, str):
        return [row]
    # The numbers of bytes would be texts, and a number has none.
    if isinstance(row, bytes) or not isinstance(row, Iterable):
        raise _no_text(row, number)
    return list(row)


def _no_text(value: object, number: int) -> UsageError:
    return UsageError(
        rule="a text must be a string",
        got=f"{type(value).__name__} in row {number}",
        fix="Convert it.",
    )


def head_outputs(member: SentenceEncoder, vectors: np.ndarray) -> np.ndarray:
    """Outputs [rows, ...] of a head from the pooled vectors [roles, rows, dim]."""
    head = member.model.head
    assert head is not None  # `load_head` refuses runs without one
    if vectors.shape[1] == 0:
        return np.zeros((0, max(1, len(member.model.spec.task.classes))), np.float32)
    return np.asarray(head(jnp.asarray(vectors)))


def predict(
    runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    rows: Rows,
    *,
    backbone: str | None = None,
    device: str = "auto",
    checkpoint: CheckpointName = "best",
    plugins: Iterable[str | ModuleType] = (),
) -> Answers:
    """What a run, or several together, say of some rows: `glot predict` from Python.

    Whoever asks more than once keeps a `Predictor`, or an estimator of `load`.

    Args:
        runs: run folder, or several.
        rows: texts, or the texts of each row.
        backbone: where the frozen model lies, if the runs know it only by the name of a folder.
        device: torch device of the backbone.
        checkpoint: "best" or "last".
        plugins: modules, or their names, with parts that a run has. Their code is run.

    Raises:
        UsageError: as for `Predictor.load` and `Predictor.predict`.
    """
    folders = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    choice = BackboneChoice(backbone, device)
    predictor = Predictor.load(folders, choice, checkpoint=checkpoint, plugins=plugins)
    return predictor.predict(rows)

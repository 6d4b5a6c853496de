"""Texts on which an exported folder is compared with its run, and the comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import shutil
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from glot_jax.backbone_files.quiet_loading import quiet_loading
from glot_jax.errors import UsageError
from glot_jax.export.agreement import (
    CLOSE,
    FIX,
    PADDED,
    margin,
    require_agreement,
    require_answers_agree,
)
from glot_jax.export.glot_task import OUTPUTS
from glot_jax.export.model_card import CODE_FILES
from glot_jax.export.torch_head import TrainedHead
from glot_jax.inference.answering import Answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
from glot_jax.model import SentenceModel
from glot_jax.store.recipe import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from glot_jax.extraction import Backbone

_TEXTS = (
    "No keys, but reports.",
    "The train that had left the old station at night came back before the sun was up.",
    "a",
    "Two dogs ran; one cat sat.",
    "Is every question a question?",
    "It was neither good nor bad, and nobody saw it.",
    "x = (y + 1) / 2",
    "The end",
)


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """Answers for rows of the texts, by `glot predict`."""

    rows: np.ndarray
    """[roles, rows] index of a text."""
    exact: Answers
    """From float32 states, as the folder computes them."""
    stored: Answers
    """As `glot predict` answers: from states that are rounded as the run's store rounded them."""


@dataclasses.dataclass(frozen=True)
class Probes:
    """What the exported folder is compared on."""

    texts: list[str]
    """Texts whose vectors are compared."""
    vectors: np.ndarray
    """[texts, dim] float32, as the run encodes them, one at a time."""
    tokenized: list[str]
    """Texts whose token ids are compared: an empty one and one that is cut among them."""
    ids: list[list[int]]
    scored: ScoredRows | None
    """What the task's head is compared on, where the folder has it."""


def probe(frozen: Backbone, head: TrainedHead, *, scored: bool) -> Probes:
    """Texts, with the vectors and tokens that the run makes of them, and what it answers."""
    model = head.model
    texts = _decided(frozen, model)
    of_task = None
    # On an accelerator JAX would round float32 products to fewer bits.
    with jax.default_matmul_precision("highest"):
        encoder = SentenceEncoder(model, frozen, frozen.layers)
        vectors = encoder.encode(texts, batch_size=1)
        if scored:
            of_task = _scored(frozen, head, texts)
    # Longer than the backbone reads: cutting must be the same too.
    times = 1 + frozen.max_length // len(_TEXTS)
    cut = " ".join(_TEXTS * times)
    tokenized = [*texts, "", cut]
    ids = frozen.tokenize(tokenized).ids
    return Probes(texts, vectors, tokenized, ids, of_task)


def _scored(frozen: Backbone, head: TrainedHead, texts: list[str]) -> ScoredRows:
    """What the run answers for rows of these texts."""
    roles = head.model.texts_per_row
    # Row r holds the texts r, r + 1, ...: each stands in every role.
    rows = (np.arange(roles)[:, None] + np.arange(len(texts))) % len(texts)
    by_row: list[list[str]] = []
    for row in rows.T:
        by_row.append([texts[text] for text in row])
    answers = []
    # float32 rounds nothing; then as the store of the run did, which is how `glot predict` answers.
    for recipe in (Recipe.partial(storage_dtype="float32"), head.run.recipe):
        encoder = SentenceEncoder(head.model, frozen, frozen.layers, recipe=recipe)
        encoder.temperature = head.run.temperature
        answers.append(Predictor([encoder]).predict(by_row, batch_size=1))
    return ScoredRows(rows, *answers)


def _decided(frozen: Backbone, model: SentenceModel) -> list[str]:
    """The texts in which no link hangs on rounding (all of them, if there is none)."""
    texts: list[str] = []
    tokens = frozen.tokenize(_TEXTS).ids
    for text, ids in zip(_TEXTS, tokens, strict=True):
        # A tokenizer may make nothing of a text: it has no states to ask.
        if not ids:
            continue
        layers = frozen.states([ids]).layers
        read = [layers[layer] for layer in frozen.layers]
        states = np.stack(read, axis=1)
        if model.stem.layer_scores is None:
            states = states[:, 0]
        if margin(model, states) > CLOSE:
            texts.append(text)
    return texts or list(_TEXTS)


def compare(folder: Path, probes: Probes) -> dict[str, float]:
    """Relative differences to the run's vectors: texts encoded alone, and padded beside others.

    Raises:
        UsageError: the tokenizer makes other tokens, or the vectors differ.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    with quiet_loading(), _exported_code(folder) as code:
        transformer = Transformer.load(
            str(folder),
            # As the run was encoded for the comparison, whatever dtype the folder names.
            model_kwargs={"dtype": "float32"},
            local_files_only=True,
        )
        pooling = code.GlotPooling.load(str(folder), subfolder="1_GlotPooling")
        model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
        features = transformer.preprocess(probes.tokenized)
        # Each by itself as the run was, and all together, where short texts are padded.
        alone = model.encode(
            probes.texts,
            batch_size=1,
            show_progress_bar=False,
        )
        together = model.encode(
            probes.texts,
            batch_size=len(probes.texts),
            show_progress_bar=False,
        )
    tokens = []
    masks = features["attention_mask"]
    for ids, mask in zip(features["input_ids"], masks, strict=True):
        tokens.append(ids[mask.bool()].tolist())
    # The tokens first: other tokens explain other vectors.
    if tokens != probes.ids:
        raise UsageError(
            rule="an exported tokenizer must make the tokens that the run was trained on",
            got="others",
            fix=FIX,
        )
    differences = {
        "alone": require_agreement(alone, probes.vectors, CLOSE),
        "padded": require_agreement(together, probes.vectors, PADDED),
    }
    if probes.scored is not None:
        differences |= _compare_scores(model, probes.texts, probes.scored)
    return differences


def _compare_scores(
    model: SentenceTransformer,
    texts: Sequence[str],
    scored: ScoredRows,
) -> dict[str, float]:
    """Differences of the folder's scores to the run's, and to those of `glot predict`."""
    # As many rows as there are texts.
    roles, rows = scored.rows.shape
    pooling: Any = model[1]
    if roles == 1:
        # As users ask for them; all at once, so that short texts are padded.
        features: Any = model.encode(list(texts), output_value=None, show_progress_bar=False)
        outputs = {}
        for name in OUTPUTS[pooling.task.predicts]:
            outputs[name] = np.array([row[name].numpy() for row in features])
    else:
        # Of several texts a row: each is encoded by itself, and then both are asked about.
        vectors = model.encode(list(texts), batch_size=rows, show_progress_bar=False)
        answers = pooling.answers(*vectors[scored.rows])
        outputs = {name: values.numpy() for name, values in answers.items()}
    # Not refused: how far rounded states move a score is the run's, not the export's.
    if scored.stored.shares is None:
        rounded = outputs["score"] - scored.stored.values
    else:
        rounded = outputs["probabilities"] - scored.stored.shares
    return {
        "scores": require_answers_agree(outputs, scored.exact),
        "predict": float(np.abs(rounded).max()),
    }


@contextlib.contextmanager
def _exported_code(folder: Path) -> Iterator[Any]:
    """The module glot_pooling of the folder itself: what is compared is what others will run."""
    name = "glot_exported"
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(f"{name}.{Path(CODE_FILES[0]).stem}")
    finally:
        # A list, because the table shrinks on the way. Another export has other code by this name.
        for module in list(sys.modules):
            if module.split(".")[0] == name:
                del sys.modules[module]
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)

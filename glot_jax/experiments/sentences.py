"""Chosen sentences through the backbone of a run, for figures of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.reporting.token_section import Sentence
from glot_jax.run_folders.run_folder import RunFolder


def sentences_of(
    run: Path,
    texts: Sequence[str],
    *,
    backbone: str | None = None,
) -> list[Sentence]:
    """Tokens and states of texts as the run reads them.

    Args:
        run: run folder.
        texts: the sentences.
        backbone: where the model lies, if the run knows it only by the name of a folder.

    Raises:
        UsageError: an imported run, a backbone that is gone or another one, or a text without a
            token of its own.
    """
    # torch and transformers, which a report without sentences does without.
    from glot_jax.backbones.from_recipe import load_backbone

    # Before the backbone is loaded, which may take minutes.
    if not texts:
        return []
    folder = RunFolder.open(run)
    folder.require_head()
    layers = folder.model.layers
    model = load_backbone(folder.recipe, layers=layers, backbone=backbone)
    # With the run's own prompt and special tokens, as its texts were.
    tokenized = model.tokenize(texts)
    sentences = []
    for text, ids, empty in zip(texts, tokenized.ids, tokenized.empty, strict=True):
        if empty:
            raise UsageError(
                rule="a sentence must have a token",
                got=repr(text),
                fix="Give another --sentences.",
            )
        # One text at a time: a figure shows a text without its neighbours' padding.
        by_layer = model.states([ids]).layers
        if folder.model.mixed:
            states = np.stack([by_layer[layer] for layer in layers], axis=1)
        else:
            states = by_layer[layers[0]]
        tokens = tuple(model.tokenizer.convert_ids_to_tokens(ids))
        sentences.append(Sentence(text, tokens, states))
    return sentences

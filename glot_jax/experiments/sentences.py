"""Chosen sentences through the backbone of a run, for figures of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from glot_jax.reporting.report import Sentence


def sentences_of(run: Path, texts: Sequence[str], *, backbone: str | None = None) -> list[Sentence]:
    """Tokens and states of texts as the run reads them.

    Raises:
        UsageError: the backbone is gone or another one, or a text has no token of its own.
    """
    from glot_jax.errors import require
    from glot_jax.extraction.from_recipe import load_backbone
    from glot_jax.reporting.report import Sentence
    from glot_jax.training.run_folder import RunFolder

    if not texts:
        return []
    folder = RunFolder.open(run)
    folder.require_head()
    layers = folder.model.layers
    model = load_backbone(folder.recipe, layers=layers, backbone=backbone)
    tokenized = model.tokenize(texts)
    found = []
    for text, ids, empty in zip(texts, tokenized.ids, tokenized.empty, strict=True):
        require(not empty, "a sentence has a token", repr(text), "Give another --sentences.")
        states = model.states([ids]).layers
        stacked = (
            np.stack([states[layer] for layer in layers], axis=1)
            if folder.model.mixed
            else states[layers[0]]
        )
        found.append(Sentence(text, tuple(model.tokenizer.convert_ids_to_tokens(ids)), stacked))
    return found

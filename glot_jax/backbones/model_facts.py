"""What a model's own parts say about it, before it is run."""

from __future__ import annotations

import inspect
from typing import Any

Model = Any
"""A model of transformers; what is called of it has no type that all architectures share."""
_OTHER_INPUTS = {
    "pixel_values": "images",
    "input_features": "sound",
    "input_values": "sound",
    "pixel_values_videos": "videos",
}
"""Parameter of a forward pass -> what it is made of."""


def vocabulary_size(model: Model) -> int | None:
    """Return the rows of a model's token table; None for one that reads characters (CANINE)."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return None
    # Perceiver returns its latent vectors, a tensor without a weight.
    weight = getattr(table, "weight", None)
    return None if weight is None else int(weight.shape[0])


def position_limit(model: Model) -> int | None:
    """Return the number of tokens a model has positions for, or None if it sets no limit."""
    # Of a multimodal model the limit is that of its text part.
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        # RoBERTa's table starts with padding_idx + 1 rows that no token uses.
        if name.endswith("position_embeddings") and padding is not None:
            limit = int(module.weight.shape[0]) - padding - 1
    return limit if isinstance(limit, int) and limit > 0 else None


def forward_parameters(model: Model) -> frozenset[str]:
    """Return the names of the arguments that a model's forward pass takes."""
    return frozenset(inspect.signature(model.forward).parameters)


def other_input(model: Model) -> str | None:
    """Return what a model reads that is not text (images, sound, videos), if anything."""
    parameters = forward_parameters(model)
    for name, noun in _OTHER_INPUTS.items():
        if name in parameters:
            return noun
    return None

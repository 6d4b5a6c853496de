"""The backbone that a store's states came from, loaded again for texts that were not stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction.backbone import Backbone
from glot_jax.extraction.backbone_source import MINILM
from glot_jax.store.recipe import Recipe

_FIX = "Name the folder or Hub model the states came from: --backbone."


def config_from(
    recipe: Recipe,
    *,
    layers: tuple[int, ...],
    backbone: str | None = None,
    **changes: Any,
) -> ExtractConfig:
    """Settings of an extraction that makes the same states from other texts; arguments as for
    load_backbone.
    """
    name = recipe.backbone_name or ""
    where = backbone or ("minilm" if name == MINILM else name)
    if not where:
        raise UsageError(
            "texts need the backbone of the run", "a run that does not know its own", _FIX
        )
    return ExtractConfig(
        **{
            "backbone": where,
            "revision": (
                recipe.revision if where != "minilm" and not Path(where).is_dir() else None
            ),
            "task": "custom",
            "out": Path("unused"),
            "layers": layers,
            "max_length": recipe.max_length,
            "kind": recipe.kind,
            "prompt": recipe.prompt,
            "deterministic": bool(recipe.deterministic),
            # Reading it runs nothing (weights_only), and its hash is part of the identity that is
            # compared below.
            "allow_bin": recipe.weights == "pytorch_model.bin",
            **changes,
        }
    )


def load_backbone(
    recipe: Recipe,
    *,
    layers: tuple[int, ...],
    backbone: str | None = None,
    device: str = "auto",
) -> Backbone:
    """The backbone of a recipe, with its tokenizer, its longest text and its special tokens, ready
    for new texts.

    Args:
        recipe: of a store, or of a run's config.json.
        layers: of the states that are wanted, 0 .. L.
        backbone: where the model lies, for a recipe that knows it by the name of a folder alone.

    Raises:
        UsageError: the backbone is gone, or is another one than that of the recipe.
    """
    config = config_from(recipe, layers=layers, backbone=backbone, device=device)
    try:
        found = Backbone(config)
    except UsageError as error:
        raise UsageError(
            "texts need the backbone of the run", f"{config.backbone}: {error}", _FIX
        ) from error
    here = found.recipe()
    compared = set(here.to_json()) - {"layers", "compute_dtype"}
    if found.compute_dtype != recipe.compute_dtype:
        # What may share a pass was measured in another dtype: it is how states are computed, not
        # what they are.
        compared -= {"passes"}
    # A store may hold more layers than are wanted now.
    changed = recipe.at_layers(here.layers).explain(here, only=compared)
    if changed:
        raise UsageError(
            "texts go through the backbone that the run was trained on", "; ".join(changed), _FIX
        )
    return found

"""The backbone that a store's states came from, loaded again for texts that were not stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from glot_jax.backbone_files.backbone_source import MINILM
from glot_jax.backbone_files.gguf_cache import cached_folder
from glot_jax.backbone_files.gguf_source import SMOLLM2, is_gguf
from glot_jax.backbones.backbone import Backbone
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError, require_extra
from glot_jax.store.recipe import Recipe

PACKAGED = {MINILM: "minilm", SMOLLM2: "smollm2"}
"""Name of a backbone that a Python package brings -> what --backbone calls it."""

_FIX = "Name the folder or Hub model the states came from: --backbone."


def config_from(
    recipe: Recipe,
    *,
    layers: tuple[int, ...],
    backbone: str | None = None,
    **changes: object,
) -> ExtractConfig:
    """Return settings of an extraction that makes the same states from other texts.

    Args:
        recipe: of a store, or of a run's config.json.
        layers: to be extracted, 0 .. L.
        backbone: as for `load_backbone`.
        **changes: fields of the settings that differ.

    Raises:
        UsageError: the recipe does not name a backbone, and no other is given.
    """
    location = backbone
    if location is None:
        location = _location(recipe)
    if not location:
        raise UsageError(
            rule="a run must name its backbone before texts can be encoded",
            got="a run that does not name one",
            fix=_FIX,
        )
    # A folder or file is identified by its hash, which is compared after loading.
    from_hub = location not in PACKAGED.values() and not Path(location).exists()
    settings: dict[str, Any] = {
        "backbone": location,
        "revision": recipe.revision if from_hub else None,
        "task": "custom",
        "out": Path("unused"),
        "layers": layers,
        "max_length": recipe.max_length,
        "kind": recipe.kind,
        "prompt": recipe.prompt,
        "add_bos": bool(recipe.add_bos),
        "deterministic": bool(recipe.deterministic),
        # Reading it runs nothing (weights_only), and its hash is part of the identity that is
        # compared in `load_backbone`.
        "allow_bin": recipe.weights == "pytorch_model.bin",
    }
    return dataclasses.replace(ExtractConfig(**settings), **changes)


def _location(recipe: Recipe) -> str:
    """Where a recipe's backbone should be found again."""
    name = recipe.backbone_name or ""
    if name in PACKAGED:
        return PACKAGED[name]
    # Stores do not say in which folder a file lay, but what was made of it may still be there.
    if is_gguf(name) and not Path(name).is_file() and recipe.backbone_sha256:
        # The cache's names hold the version of its package.
        require_extra("gguf", "a GGUF backbone")
        folder = cached_folder(recipe.backbone_sha256)
        if folder is not None and recipe.revision is None:
            return str(folder)
    return name


def load_backbone(
    recipe: Recipe,
    *,
    layers: tuple[int, ...],
    backbone: str | None = None,
    device: str = "auto",
    device_map: Literal["none", "auto"] = "none",
) -> Backbone:
    """Return the backbone of a recipe, ready for new texts.

    It has the recipe's tokenizer, longest text and special tokens.

    Args:
        recipe: of a store, or of a run's config.json.
        layers: to be extracted, 0 .. L.
        backbone: where the model lies, for a recipe that knows it by the name of a folder alone.
        device: torch device.
        device_map: "auto" spreads a backbone that is larger than a GPU.

    Raises:
        UsageError: the backbone is gone, or is another one than that of the recipe.
    """
    config = config_from(
        recipe, layers=layers, backbone=backbone, device=device, device_map=device_map
    )
    try:
        # The backbone itself says what is wrong; that it is the run's is added here.
        loaded = Backbone(config)
    except UsageError as error:
        raise UsageError(
            rule="the backbone of the run must be there to encode texts",
            got=f"{error.got} ({error.rule})",
            fix=f"{error.fix} {_FIX}",
        ) from error
    require_same_backbone(recipe, loaded)
    return loaded


def require_same_backbone(recipe: Recipe, backbone: Backbone) -> None:
    """Require that a loaded backbone makes the states of a recipe.

    Raises:
        UsageError: it makes others.
    """
    changed = changes(recipe, backbone)
    if changed:
        raise UsageError(
            rule="texts must go through the backbone that the run was trained on",
            got="; ".join(changed),
            fix=_FIX,
        )


def changes(recipe: Recipe, backbone: Backbone) -> list[str]:
    """Fields in which the states of a loaded backbone differ from those of a recipe."""
    loaded = backbone.recipe()
    compared = set(loaded.to_json()) - {"layers", "compute_dtype"}
    if loaded.compute_dtype != recipe.compute_dtype:
        # What may share a pass was measured in another dtype: it is how states are computed, not
        # what they are.
        compared -= {"passes"}
    # A store may hold more layers than are extracted now.
    return recipe.at_layers(loaded.layers).explain(loaded, only=compared)

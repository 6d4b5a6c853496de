"""Trained runs and the backbones that they were trained on, loaded for new texts.

The head comes first, which takes moments: what is wrong with it is said before torch and a backbone
of gigabytes are loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from flax import nnx

from glot_jax.config.runs import BackboneChoice
from glot_jax.errors import require_extra
from glot_jax.model import SentenceModel
from glot_jax.plugins import load as load_plugins
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder
from glot_jax.store.identity import canonical

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone

_OF_A_STORE = (
    "deduplicate",
    "label_column",
    "max_train_rows",
    "sample_seed",
    "shard_tokens",
    "storage_dtype",
    "task",
    "text_columns",
)
"""Fields of a recipe that say which texts were stored and how, and nothing of the backbone."""


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """A run folder and the model of one of its checkpoints."""

    folder: RunFolder
    model: SentenceModel
    checkpoint: CheckpointName


def load_head(
    run: str | os.PathLike[str],
    checkpoint: CheckpointName = "best",
    plugins: Iterable[str | ModuleType] = (),
) -> TrainedHead:
    """Stem, pooler and head of a run.

    Args:
        run: run folder.
        checkpoint: "best" or "last".
        plugins: modules, or names for `glot_jax.plugins.load`, with parts that the run has. Their
            code is run.

    Raises:
        UsageError: no run, no checkpoint, an imported run, or a plugin that was not loaded.
    """
    require_extra("extract", "a trained run on new texts")
    load_plugins(plugins)
    folder = RunFolder.open(run)
    folder.require_head()
    return TrainedHead(folder, folder.load_model(checkpoint), checkpoint)


def load_backbones(heads: Sequence[TrainedHead], choice: BackboneChoice) -> list[Backbone]:
    """The backbone of every head, the same object where they share one.

    Raises:
        UsageError: a backbone that is gone, or another one than the run's.
    """
    from glot_jax.backbones.from_recipe import load_backbone

    keys = [_backbone_key(head.folder) for head in heads]
    loaded: dict[bytes, Backbone] = {}
    for key, head in zip(keys, heads, strict=True):
        if key in loaded:
            continue
        # One pass gives the layers of all heads that read the same store.
        layers: set[int] = set()
        for other, sharer in zip(keys, heads, strict=True):
            if other == key:
                layers.update(sharer.folder.model.layers)
        loaded[key] = load_backbone(
            head.folder.recipe,
            layers=tuple(sorted(layers)),
            backbone=choice.backbone,
            device=choice.device,
            device_map=choice.device_map,
        )
    return [loaded[key] for key in keys]


def _backbone_key(folder: RunFolder) -> bytes:
    """What two runs have in common if one backbone makes the states of both."""
    values = folder.recipe.to_json()
    for name in _OF_A_STORE:
        values.pop(name, None)
    return canonical(values)


def weights_sha256(model: nnx.Module) -> str:
    """sha256 of every array of a model, by name."""
    digest = hashlib.sha256()
    # Paths are spelled as tuples here, not by `tree_paths`: results of MTEB are kept by this hash.
    state = nnx.state(model)
    for path, variable in nnx.to_flat_state(state):
        array = np.asarray(variable[...])
        # With dtype and shape: arrays of the same bytes need not be the same array.
        heading = f"{path} {array.dtype} {array.shape} "
        digest.update(heading.encode() + array.tobytes())
    return digest.hexdigest()

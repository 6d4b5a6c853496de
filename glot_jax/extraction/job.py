"""An extraction that is ready to start: whatever could be wrong with its input has been checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from rich.console import Console

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.backbone_files.pinning import pin_revision
from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.distant import KnownBackbone
from glot_jax.backbones.tokenizer import load_tokenizer, vocabulary
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction.out_folder import refuse_other_folder
from glot_jax.extraction.progress import say
from glot_jax.extraction.row_table import RowTable
from glot_jax.store.layout import check_split_name
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import read_manifest
from glot_jax.store.recipe import Recipe
from glot_jax.texts import TaskData, TaskSpec, open_task
from glot_jax.texts.stress_words import whole_words


@dataclasses.dataclass(frozen=True)
class Job:
    """The parts of an extraction that its modes share."""

    config: ExtractConfig
    data: TaskData
    backbone: KnownBackbone
    recipe: Recipe
    """What the user asks for; a store or an unfinished one must have the same."""
    notices: tuple[str, ...]
    """What was read, left out and assumed: printed as one block between checks and work."""
    console: Console

    @property
    def out(self) -> Path:
        """Folder of the store."""
        return self.config.out

    def say(self, text: str, style: str = "") -> None:
        """Print a line for the user."""
        say(self.console, text, style)

    def announce(self) -> None:
        """Print the notices."""
        for notice in self.notices:
            self.say(notice)

    def lock(self) -> StoreLock:
        """Return the right to write the store, or a worker's share of it, to be entered."""

        def warn(text: str) -> None:
            self.say(text, "yellow")

        return StoreLock(self.out, warn, share=self.config.share)

    def new_table(self) -> RowTable:
        """Return an empty table for the rows of a split."""
        return RowTable(self.data.spec, deduplicate=self.config.deduplicate)


@dataclasses.dataclass(frozen=True)
class LocalJob(Job):
    """An extraction whose model runs in this process."""

    backbone: Backbone


def prepare(
    config: ExtractConfig,
    console: Console,
    *,
    spec: TaskSpec | None = None,
    backbone: Backbone | None = None,
) -> LocalJob:
    """Check everything that can be wrong before the store is touched.

    Args:
        config: settings of the extraction.
        console: receives messages.
        spec: classes or range of the labels, where they are known from elsewhere.
        backbone: one of these settings that is loaded already.

    Raises:
        UsageError: the folder is in use, or data, backbone, layers or lengths do not fit.
    """
    # The cheap checks first: data are read in seconds, a backbone may have to be downloaded.
    config, data, pinned = open_rows(config, spec)
    if config.threads is not None:
        # Before the first product: PyTorch has its own idea of how many, and launchers theirs.
        torch.set_num_threads(config.threads)
    if backbone is None:
        backbone = Backbone(config, default_max_length=data.spec.max_length)
    # In the order in which they came about.
    notices = (*pinned, *data.notices, *backbone.notices())
    recipe = recipe_of(config, data.spec, backbone)
    return LocalJob(config, data, backbone, recipe, notices, console)


def open_rows(
    config: ExtractConfig, spec: TaskSpec | None = None
) -> tuple[ExtractConfig, TaskData, tuple[str, ...]]:
    """Open the rows, and check what can be checked without the model.

    Args:
        config: settings of the extraction.
        spec: classes or range of the labels, where they are known from elsewhere.

    Returns:
        The settings, with the commit of a Hub backbone; the rows; lines about the commit.

    Raises:
        UsageError: the folder is in use, or the data do not fit.
    """
    refuse_other_folder(config.out)
    # Labels must be read as the store understands them: class names in its order, scores in its
    # range.
    if config.append:
        spec = TaskSpec.from_json(read_manifest(config.out).task)
    config, pinned = pin_revision(config)
    # A branch that moved must not change a store that was begun with an earlier commit.
    data = open_task(config, vocabulary=lambda: _whole_words(config), spec=spec)
    # Names become folders, and a split without a row has no shard to resume from.
    for name, split in data.splits.items():
        check_split_name(name)
        if not len(split):
            raise UsageError(
                rule="a split must have at least one row",
                got=f"{name} with none",
                fix="Fill the split or leave it out.",
            )
    return config, data, tuple(pinned)


def _whole_words(config: ExtractConfig) -> list[str]:
    """The words that stress texts are made of; only their generators ask for them."""
    source = find_source(config.location, config.revision, allow_bin=config.allow_bin)
    return whole_words(vocabulary(load_tokenizer(source)))


def recipe_of(config: ExtractConfig, spec: TaskSpec, backbone: KnownBackbone) -> Recipe:
    """Everything that decides the store's bytes and is known before the first shard."""
    recipe = backbone.recipe().extended(
        storage_dtype=config.storage_dtype,
        shard_tokens=config.shard_tokens,
        task=spec.name,
        text_columns=spec.text_columns,
        label_column=spec.label_column,
        max_train_rows=config.max_train_rows or spec.max_train_rows,
        sample_seed=config.sample_seed,
        # What a store does not use is not in its recipe: it stays the one that earlier versions
        # wrote.
        deterministic=config.deterministic or None,
        deduplicate=config.deduplicate or None,
    )
    if not spec.is_generated:
        return recipe
    return recipe.extended(
        protocol=config.protocol,
        ratio=config.ratio,
        diagnostic_rows=config.diagnostic_rows,
        # Options of later versions are named only where they are not the default.
        distance=config.distance or None,
        position=config.position,
    )

"""Rows that a caller from Python has, extracted without a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from glot_jax.backbones.backbone import Backbone
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction.fresh import write_store
from glot_jax.extraction.job import LocalJob, recipe_of
from glot_jax.store.reader import HiddenStore
from glot_jax.texts.splits import Split, TaskData
from glot_jax.texts.tasks import Example, TaskSpec


def store_rows(
    splits: Mapping[str, Sequence[Example]],
    spec: TaskSpec,
    config: ExtractConfig,
    backbone: Backbone,
    *,
    console: Console | None = None,
) -> HiddenStore:
    """Store the token states of some rows, as `dump` does with those of files.

    Args:
        splits: split -> its rows, in their order.
        spec: of the task, with classes or range.
        config: settings; the store is `config.out`.
        backbone: one of these settings.
        console: receives messages. Default: nobody does.

    Raises:
        UsageError: as for `dump`; a split without rows.
    """
    for name, rows in splits.items():
        if not rows:
            raise UsageError(
                rule="a split must have at least one row",
                got=f"{name} with none",
                fix="Give rows, or leave the split out.",
            )
    data = TaskData(spec, {name: _split(name, rows) for name, rows in splits.items()})
    recipe = recipe_of(config, spec, backbone)
    return write_store(LocalJob(config, data, backbone, recipe, (), console or Console(quiet=True)))


def _split(name: str, rows: Sequence[Example]) -> Split:
    return Split(name, len(rows), lambda: iter(rows))

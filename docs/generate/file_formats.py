"""The page of files: what a store and a run folder hold, from the docstrings of their readers."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from types import ModuleType

FIELDS = {
    "manifest.json": "glot_jax.store.manifest.Manifest",
    "The recipe in it": "glot_jax.store.recipe.Recipe",
    "A split in it": "glot_jax.store.records.SplitRecord",
    "record.json of a shard": "glot_jax.store.records.ShardRecord",
}
RUN = {
    "summary.json": "glot_jax.run_folders.run_folder.Summary",
    "predictions.npz": "glot_jax.objectives.metrics.Predictions",
    "A line of `health` in summary.json": "glot_jax.health.finding.Finding",
}


def fields(title: str, target: str) -> list[str]:
    """The fields of a class of records, without its methods."""
    module, _, name = target.rpartition(".")
    record = getattr(importlib.import_module(module), name)
    named = getattr(record, "_fields", None)
    names = named or [field.name for field in dataclasses.fields(record)]
    return [
        f"### {title}",
        "",
        f"::: {target}",
        "    options:",
        "      show_root_heading: false",
        "      show_root_toc_entry: false",
        "      show_if_no_docstring: true",
        "      heading_level: 4",
        f"      members: [{', '.join(names)}]",
        "",
    ]


def tree(module: ModuleType) -> list[str]:
    """The listing in a module's docstring."""
    text = inspect.getdoc(module) or ""
    return [line for line in text.splitlines() if line.startswith("OUT")]


def pages() -> dict[str, str]:
    """The page, by its path."""
    from glot_jax.run_folders.run_files import FORMAT, READABLE
    from glot_jax.store import layout
    from glot_jax.store.manifest import SCHEMA_VERSION

    readable = " and ".join(map(str, READABLE))
    lines = [
        "# Files",
        "",
        "No file is a pickle, and none is executed by being read. Arrays are `.npy` or `.npz`.",
        "",
        "## A store",
        "",
        f"Version {SCHEMA_VERSION}. What they mean: [stores](../concepts/stores.md).",
        "",
        "```",
        *tree(layout),
        "```",
        "",
    ]
    for title, target in FIELDS.items():
        lines += fields(title, target)
    lines += [
        "## A run folder",
        "",
        f"Format {FORMAT}; formats {readable} are read. See [run folders](../concepts/runs.md).",
        "",
        "config.json holds `format`, `config` (every setting of",
        "[train.py](commands/train.md) by its group), `model`, `store` (content of the store),",
        "`recipe`, `unused` (settings that the pooler does not read), and perhaps `plugins`.",
        "",
    ]
    for title, target in RUN.items():
        lines += fields(title, target)
    return {"reference/files.md": "\n".join(lines)}

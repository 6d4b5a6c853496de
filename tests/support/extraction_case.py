"""A small extraction, quick to repeat: what the tests of faults disturb."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import Location, require_folder
from glot_jax.extraction import Backbone, dump, dump_share
from support.tiny_backbones import CORPUS, make_backbone

WORDS = " ".join(CORPUS).split()


def write_texts(folder: Path, rows: dict[str, int], seed: int = 0, longest: int = 10) -> Path:
    """Labelled rows of 1 to `longest` words."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in rows.items():
        lines = [
            {"text": " ".join(rng.choice(WORDS, rng.integers(1, longest + 1))), "label": row % 2}
            for row in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def make_case(folder: Path, rows: dict[str, int], **options: object) -> ExtractConfig:
    """Configuration of an extraction into folder/store: a tiny BERT on random texts."""
    defaults = {
        "backbone": str(make_backbone("bert", folder / "bert")),
        "task": "custom",
        "data": write_texts(folder / "data", rows),
        "text_columns": ("text",),
        "label_column": "label",
        "shard_tokens": 30,
        "tokens_per_batch": 40,
        "device": "cpu",
        # On some processors the number of threads decides the last bits of small products.
        "threads": 1,
        "out": folder / "store",
    }
    return ExtractConfig(**{**defaults, **options})


def run(config: ExtractConfig, out: Path | None = None) -> str:
    """Extract, or write a worker's share, and return what was printed."""
    printed = io.StringIO()
    console = Console(file=printed, width=1000)
    config = dataclasses.replace(config, out=out or config.out)
    (dump if config.worker is None else dump_share)(config, console=console)
    return printed.getvalue()


def load_backbone(folder: Path | str, **options: object) -> Backbone:
    """The backbone in a folder, or of a name, on the CPU."""
    settings = {"backbone": str(folder), "task": "custom", "out": Path("unused"), "device": "cpu"}
    return Backbone(ExtractConfig(**{**settings, **options}))


def change_json(path: Path, **values: object) -> None:
    """Write other values into a JSON object."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def token_states(folder: Path, **options: object) -> np.ndarray:
    """States [4, dim] of the second and last block, for four tokens."""
    return load_backbone(folder, **options).states([[5, 9, 7, 30]]).layers[2]


def run_in_child(config: ExtractConfig) -> None:
    """The same in a process of its own, started by multiprocessing."""
    run(config)


def tree(folder: Location) -> dict[str, bytes]:
    root = require_folder(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def finished_shards(store: Location) -> list[Path]:
    return sorted(require_folder(store).glob("*/shard-*"))


def identity(store: Location) -> dict[Path, tuple[int, int]]:
    """Inode and time of the last change of every file of the finished shards."""
    return {
        file: (file.stat().st_ino, file.stat().st_mtime_ns)
        for shard in finished_shards(store)
        for file in shard.iterdir()
    }

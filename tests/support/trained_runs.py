"""A tiny backbone, stores of rows with a text or two, and runs on them: what answers new texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.training import train
from support.tiny_backbones import make_backbone

StorageDtype = Literal["auto", "float16", "bfloat16", "float32", "int8"]
WORDS = ("cat", "dog", "bird", "train", "sun", "park", "mat", "the", "on")
TOPICS = ("animals, large", "travel", "weather")
"""Names of classes; one has a comma."""


def sentences(count: int, seed: int) -> list[str]:
    """Texts of 1 to 19 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(count)]


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A .jsonl file of rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_runs(folder: Path, *, storage_dtype: StorageDtype = "auto") -> Path:
    """Fill a folder: `tiny` (backbone), and the runs `topics`, `other`, `pairs` and `scores`.

    `data/KIND/{train,validation}.jsonl` are what they were trained on. `other` is a second run of
    the store of `topics`.
    """
    make_backbone("bert", folder / "tiny")
    kinds: dict[str, tuple[str, ...]] = {
        "topics": ("body",),
        "pairs": ("sentence1", "sentence2"),
        "scores": ("body",),
    }
    for seed, (kind, columns) in enumerate(kinds.items()):
        data = folder / "data" / kind
        data.mkdir(parents=True)
        for split, count in (("train", 24), ("validation", 12)):
            texts = sentences(2 * count, 10 * seed + count)
            rows = []
            for number in range(count):
                label: Any = TOPICS[number % 3] if kind == "topics" else number % 7 / 2
                own = texts[number * len(columns) : (number + 1) * len(columns)]
                rows.append({**dict(zip(columns, own, strict=True)), "label": label})
            write_lines(data / f"{split}.jsonl", rows)
        task = "stsb" if kind == "pairs" else "custom"
        own_columns: dict[str, Any] = {}
        if task == "custom":
            own_columns = {"text_columns": columns, "label_column": "label"}
        dump(
            ExtractConfig(
                backbone=str(folder / "tiny"),
                task=task,
                data=data,
                out=folder / f"store-{kind}",
                layers=(1, -1),
                storage_dtype=storage_dtype,
                **own_columns,
            )
        )
        runs = {kind: 1, "other": 2} if kind == "topics" else {kind: 1}
        for name, run_seed in runs.items():
            train(
                TrainConfig(
                    store=folder / f"store-{kind}",
                    out=folder / name,
                    # Of the two that answer together each reads a layer of its own.
                    layer=1 if name == "other" else -1,
                    epochs=2,
                    buckets=1,
                    seed=run_seed,
                    pooler=PoolerConfig(hidden_dim=8),
                ),
                quiet=True,
            )
    return folder

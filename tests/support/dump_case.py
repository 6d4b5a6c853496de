"""Small tasks to extract, and ways to disturb their extraction: what the tests of `dump` share."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from glot_jax import disk
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import dump
from glot_jax.store import HiddenStore
from support.tiny_backbones import CORPUS

WORDS = " ".join(CORPUS).split()
ROWS = {"train": 30, "validation": 8}

Row = dict[str, Any]
"""As a file of JSON lines holds it."""


def write_rows(
    folder: Path,
    rows: Mapping[str, int] = ROWS,
    pairs: bool = False,
    label: Callable[[int], float] = lambda row: row % 2,
    change: Callable[[list[Row]], list[Row]] = lambda rows: rows,
) -> Path:
    """Texts of 0 to 9 words; row 3 is empty."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, count in rows.items():
        rows_of_split = []
        for row in range(count):
            texts = [
                " ".join(rng.choice(WORDS, rng.integers(1, 10))) if row != 3 else ""
                for _ in range(1 + pairs)
            ]
            rows_of_split.append(
                {**{f"text{index}": text for index, text in enumerate(texts)}, "label": label(row)}
            )
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, change(rows_of_split))))
    return folder


def run(config: ExtractConfig) -> tuple[HiddenStore, str]:
    """(store, what was printed)."""
    printed = io.StringIO()
    store = dump(config, console=Console(file=printed, width=1000))
    return store, printed.getvalue()


def refuse(config: ExtractConfig, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        run(config)


def texts_of(folder: Path, split: str = "train") -> list[str]:
    return [
        json.loads(line)["text0"] for line in (folder / f"{split}.jsonl").read_text().splitlines()
    ]


def interrupt_after(
    monkeypatch: pytest.MonkeyPatch,
    shards: int,
    error: BaseException | type[BaseException] = KeyboardInterrupt,
) -> None:
    """Let `shards` shards be finished, and the next one fail.

    It fails when states are put into it for the second time.
    """
    count, original = [0], disk.write

    def write(file: int, data: bytes | memoryview, at: int) -> None:
        # Only this shard's files: the one before may still be sealed by another thread.
        if f"shard-{shards:05d}/hidden" in os.readlink(f"/proc/self/fd/{file}") and at > 0:
            count[0] += 1
            if count[0] > 1:
                raise error
        return original(file, data, at)

    monkeypatch.setattr(disk, "write", write)

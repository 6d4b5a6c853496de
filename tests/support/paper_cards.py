"""Toy data of CoLA's columns and settings of `glot reproduce` that read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.config.experiments import ReproduceConfig

WORDS = ("cat", "dog", "bird", "train", "sun", "park", "mat")


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows whose label can be learned: whether there is a cat."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]
    return [{"sentence": text, "label": int("cat" in text.split())} for text in texts]


def write_rows(path: Path, values: list[dict[str, Any]]) -> None:
    """A .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def settings(folder: Path, out: Path, *cards: str, **changes: object) -> ReproduceConfig:
    """Cards at toy size, on the backbone and the data of the fixture `laboratory`."""
    options = {
        "backbone": str(folder / "tiny"),
        "data": folder / "data",
        "epochs": 1,
        "seeds": (1,),
        "hidden_dim": 8,
        "sentences": ("the cat sat",),
        "resamples": 100,
    }
    return ReproduceConfig(cards=cards, out=out, **{**options, **changes})

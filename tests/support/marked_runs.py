"""Runs whose right answer is known: the class is decided by one word of a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
import transformers

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.model import SentenceModel
from glot_jax.objectives.heads import FeatureHead
from glot_jax.training import train
from support.tiny_backbones import make_backbone
from support.trained_runs import write_lines

MARKERS = {"train": "travel", "sun": "weather"}
"""The word that decides -> the class, in the order of the classes."""
_OTHERS = ("cat", "dog", "bird", "park", "mat", "the", "on")


def marked_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Rows {body, label} of 2 to 5 words, one of which is a marker."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        marker = list(MARKERS)[number % 2]
        words = list(rng.choice(_OTHERS, rng.integers(1, 5)))
        words.insert(int(rng.integers(0, len(words) + 1)), marker)
        rows.append({"body": " ".join(words), "label": MARKERS[marker]})
    return rows


def make_marked_store(folder: Path) -> Path:
    """Fill a folder: `tiny` (backbone) and `store`, whose states are those of single words."""
    backbone = make_backbone("bert", folder / "tiny")
    _forget_positions(backbone)
    data = folder / "data"
    data.mkdir()
    for seed, (split, count) in enumerate((("train", 160), ("validation", 20))):
        write_lines(data / f"{split}.jsonl", marked_rows(count, seed))
    dump(
        ExtractConfig(
            backbone=str(folder / "tiny"),
            task="custom",
            data=data,
            out=folder / "store",
            # Of the embeddings: above them every token knows of the others.
            layers=(0,),
            text_columns=("body",),
            label_column="label",
        )
    )
    return folder


def _forget_positions(backbone: Path) -> None:
    """Make the embedding of a token that of its word alone."""
    model = transformers.AutoModel.from_pretrained(backbone)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.zero_()
    model.save_pretrained(backbone)


def train_marked(folder: Path, name: str, **pooler: Any) -> Path:  # noqa: ANN401 - settings
    """Train a run of the store, for a model whose head is then replaced: `decide_by_markers`."""
    train(
        TrainConfig(
            store=folder / "store",
            out=folder / name,
            epochs=1,
            batch_size=16,
            buckets=1,
            graph=GraphConfig(tau=0.9),
            pooler=PoolerConfig(**pooler),
        ),
        quiet=True,
    )
    return folder / name


def decide_by_markers(model: SentenceModel, states: dict[str, np.ndarray]) -> None:
    """Give a model a head to whose logits the states of markers alone contribute.

    Args:
        model: of two classes, whose pooled vectors begin with a weighted sum of the states.
        states: [dim] of every word and special token.
    """
    goals = [_goal(word) for word in states]
    # More dimensions than words: the system has a solution.
    direction, *_ = np.linalg.lstsq(np.stack(list(states.values())), np.array(goals), rcond=None)
    head = model.head
    assert isinstance(head, FeatureHead)
    kernel = np.zeros(head.linear.kernel.shape, np.float32)
    kernel[: len(direction), 0] = direction
    kernel[: len(direction), 1] = -direction
    head.linear.kernel[...] = jnp.asarray(kernel)
    head.linear.bias[...] = jnp.zeros(2)


def _goal(word: str) -> float:
    """What a state of a word shall add to the first logit."""
    if word not in MARKERS:
        return 0.0
    return 3.0 if word == next(iter(MARKERS)) else -3.0

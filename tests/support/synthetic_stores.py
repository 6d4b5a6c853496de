"""Small stores written by the real writer, without a language model: the tests of training need
states, not text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glot_jax.files import file_sha256
from glot_jax.store.arrays import DTYPES, stored_dtype
from glot_jax.store.manifest import Manifest, write_manifest
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import SplitRecord
from glot_jax.store.writer import ShardCounts, ShardWriter
from glot_jax.texts.tasks import TaskSpec

CLASSES = TaskSpec(
    "custom",
    ("text",),
    ("text",),
    "label",
    "classes",
    classes=("no", "yes"),
    metrics=("accuracy", "f1"),
)
PAIRS = TaskSpec(
    "custom",
    ("a", "b"),
    ("a", "b"),
    "label",
    "classes",
    classes=("no", "yes"),
    metrics=("accuracy", "f1"),
)
SCORES = TaskSpec(
    "custom",
    ("a", "b"),
    ("a", "b"),
    "label",
    "regression",
    label_range=(0.0, 5.0),
    metrics=("spearman", "pearson"),
)
SCORE = TaskSpec(
    "custom",
    ("text",),
    ("text",),
    "label",
    "regression",
    label_range=(-1.0, 3.0),
    metrics=("spearman", "pearson"),
)


def make_states(
    lengths: Sequence[int], labels: np.ndarray, dim: int, seed: int
) -> list[np.ndarray]:
    """Tokens scattered around a direction of their text, plus one token that gives the label
    away.
    """
    rng = np.random.default_rng(seed)
    clue = np.random.default_rng(7).normal(size=(2, dim))
    states = []
    for index, length in enumerate(lengths):
        shared = rng.normal(size=dim)
        tokens = 1.2 * shared + rng.normal(size=(length, dim))
        if length:
            tokens[rng.integers(length)] += 3 * clue[int(labels[index] > 0.5)]
        states.append(tokens)
    return states


def make_store(
    folder: Path,
    spec: TaskSpec = CLASSES,
    *,
    rows: dict[str, int] | None = None,
    dim: int = 8,
    longest: int = 12,
    shards: int = 2,
    dtype: str = "float16",
    layers: tuple[int, ...] = (2,),
    kind: str = "encoder",
    seed: int = 0,
    empty_rows: Sequence[int] = (),
) -> Path:
    """A finished store of random states; labels can be learned from them.

    `empty_rows` of train have no token.
    """
    splits = {}
    for number, (split, count) in enumerate((rows or {"train": 40, "validation": 12}).items()):
        rng = np.random.default_rng((seed, number))
        texts = count * len(spec.roles)
        labels = (
            np.arange(count) % 2
            if spec.label_kind != "regression"
            else rng.uniform(*(spec.label_range or (0, 1)), count)
        )
        lengths = rng.integers(1, longest + 1, texts)
        if split == "train":
            lengths[[row * len(spec.roles) for row in empty_rows]] = 0
        scaled = (
            labels if spec.label_kind != "regression" else labels / (spec.label_range or (0, 1))[1]
        )
        states = make_states(lengths, np.repeat(scaled, len(spec.roles)), dim, seed + number)
        folder_of_split = folder / split
        folder_of_split.mkdir(parents=True)
        files = {
            "row_offsets.npy": np.arange(count + 1, dtype=np.int64) * len(spec.roles),
            "row_texts.npy": np.arange(texts, dtype=np.int64),
            "roles.npy": np.tile(np.arange(len(spec.roles), dtype=np.int8), count),
            "labels.npy": labels.astype(np.int64 if spec.label_kind == "classes" else np.float32),
        }
        if spec.label_kind == "none":
            del files["labels.npy"]
        for name, array in files.items():
            np.save(folder_of_split / name, array)
        records = []
        for index, chunk in enumerate(np.array_split(np.arange(texts), shards)):
            tokens = np.concatenate([states[i] for i in chunk])
            stored = tokens.astype(DTYPES[dtype])
            with ShardWriter(
                folder_of_split,
                index,
                lengths[chunk].astype(np.int32),
                np.arange(len(tokens), dtype=np.int32),
                dim=dim,
                dtypes=dict.fromkeys(layers, dtype),
            ) as shard:
                for layer in layers:
                    scaled_states = (stored * (layer + 1) / (layers[-1] + 1)).astype(stored.dtype)
                    shard.put(
                        layer,
                        0,
                        np.ascontiguousarray(scaled_states.view(stored_dtype(dtype))),
                    )
                records.append(
                    shard.finish(
                        ShardCounts(
                            truncated=0, empty=0, max_abs=float(np.abs(tokens).max(initial=0))
                        )
                    )
                )
        splits[split] = SplitRecord(
            rows=count,
            texts=texts,
            tokens=sum(record.tokens for record in records),
            truncated=0,
            empty=0,
            max_abs=max(record.max_abs for record in records),
            shards=tuple(records),
            arrays={
                name: {
                    "sha256": file_sha256(folder_of_split / name),
                    "bytes": (folder_of_split / name).stat().st_size,
                }
                for name in files
            },
        )
    recipe = Recipe.partial(
        backbone={"name": "synthetic", "sha256": "0" * 64, "revision": None},
        kind=kind,
        num_layers=max(layers),
        dim=dim,
        layers=tuple(layers),
        storage_dtype=dtype,
        more={"seed": seed},
    )
    write_manifest(folder, Manifest.build(recipe, spec.to_json(), splits))
    return folder

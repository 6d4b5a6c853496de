"""Small stores written by the real writer, without a language model.

The tests of training need states, not text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glot_jax.files import file_sha256
from glot_jax.store.arrays import DTYPES, stored_dtype
from glot_jax.store.integrity import FileRecord
from glot_jax.store.manifest import Manifest, write_manifest
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import ShardRecord, SplitRecord, sum_up
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
LABELS = TaskSpec(
    "custom",
    ("text",),
    ("text",),
    "label",
    "multilabel",
    classes=("odd", "even", "fourth"),
    metrics=("f1_micro", "f1_macro", "average_precision"),
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
    lengths: Sequence[int] | np.ndarray, labels: np.ndarray, dim: int, seed: int
) -> list[np.ndarray]:
    """Tokens scattered around a direction of their text.

    And one token that gives the label away.
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
    sinks: Sequence[int] = (),
    scale: float = 1.0,
    common: float = 0.0,
) -> Path:
    """A finished store of random states; labels can be learned from them.

    `empty_rows` of train have no token. At the positions `sinks` every text has one state, the same
    for all, a thousand times as long as the others. All states are `scale` times as long as usual,
    and have `common` added to each entry.
    """
    layout = _Layout(dim, longest, shards, dtype, layers, tuple(sinks), scale, common)
    splits = {}
    for number, (split, count) in enumerate((rows or {"train": 40, "validation": 12}).items()):
        empty = empty_rows if split == "train" else ()
        texts = _draw_texts(spec, count, layout, (seed, number), empty)
        splits[split] = _write_split(folder / split, spec, texts, layout)
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


class _Layout(NamedTuple):
    dim: int
    longest: int
    shards: int
    dtype: str
    layers: tuple[int, ...]
    sinks: tuple[int, ...]
    scale: float
    common: float


class _Texts(NamedTuple):
    """The texts of one split, and the labels of its rows."""

    labels: np.ndarray
    lengths: np.ndarray
    states: list[np.ndarray]
    """Per text [length, dim], float64."""


def _draw_texts(
    spec: TaskSpec, rows: int, layout: _Layout, seed: tuple[int, int], empty_rows: Sequence[int]
) -> _Texts:
    rng = np.random.default_rng(seed)
    roles = len(spec.roles)
    # Scaled to 0 .. 1, as the states know them.
    if spec.label_kind == "regression":
        low, high = spec.label_range or (0, 1)
        labels = rng.uniform(low, high, rows)
        scaled = labels / high
    else:
        labels = np.arange(rows) % 2
        scaled = labels
    if spec.label_kind == "multilabel":
        numbers = np.arange(rows)
        labels = np.stack([numbers % 2, (numbers + 1) % 2, numbers % 4 == 0], axis=1)
        # Some rows have none.
        labels[numbers % 8 == 7] = 0
    lengths = rng.integers(1, layout.longest + 1, rows * roles)
    lengths[[row * roles for row in empty_rows]] = 0
    states = make_states(lengths, np.repeat(scaled, roles), layout.dim, sum(seed))
    sink = np.full(layout.dim, 2_000.0)
    for text in states:
        for position in layout.sinks:
            # A text that is shorter has none there.
            text[position : position + 1] = sink
        text *= layout.scale
        text += layout.common
    return _Texts(labels, lengths, states)


def _write_split(folder: Path, spec: TaskSpec, texts: _Texts, layout: _Layout) -> SplitRecord:
    folder.mkdir(parents=True)
    rows = len(texts.labels)
    roles = len(spec.roles)
    arrays = {
        "row_offsets.npy": np.arange(rows + 1, dtype=np.int64) * roles,
        "row_texts.npy": np.arange(rows * roles, dtype=np.int64),
        "roles.npy": np.tile(np.arange(roles, dtype=np.int8), rows),
    }
    if spec.label_kind != "none":
        label_dtypes = {"classes": np.int64, "multilabel": np.uint8}
        label_dtype = label_dtypes.get(spec.label_kind, np.float32)
        arrays["labels.npy"] = texts.labels.astype(label_dtype)
    files: dict[str, FileRecord] = {}
    for name, array in arrays.items():
        np.save(folder / name, array)
        files[name] = {
            "sha256": file_sha256(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
    records = []
    for index, chunk in enumerate(np.array_split(np.arange(rows * roles), layout.shards)):
        tokens = np.concatenate([texts.states[text] for text in chunk])
        lengths = texts.lengths[chunk].astype(np.int32)
        records.append(_write_shard(folder, index, lengths, tokens, layout))
    return sum_up(rows, records, files)


def _write_shard(
    folder: Path, index: int, lengths: np.ndarray, tokens: np.ndarray, layout: _Layout
) -> ShardRecord:
    stored = tokens.astype(DTYPES[layout.dtype])
    token_ids = np.arange(len(tokens), dtype=np.int32)
    dtypes = dict.fromkeys(layout.layers, layout.dtype)
    peak = float(np.abs(tokens).max(initial=0))
    with ShardWriter(folder, index, lengths, token_ids, dim=layout.dim, dtypes=dtypes) as shard:
        for layer in layout.layers:
            # The last layer holds the states themselves, earlier ones a part of them.
            part = (stored * (layer + 1) / (layout.layers[-1] + 1)).astype(stored.dtype)
            states = np.ascontiguousarray(part.view(stored_dtype(layout.dtype)))
            shard.put(layer, 0, states)
        return shard.finish(ShardCounts(truncated=0, empty=0, max_abs=peak))

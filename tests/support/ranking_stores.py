"""Small stores of queries with relevant and other texts, written by the real writer.

The tests of rankings train on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glot_jax.files import file_sha256
from glot_jax.store.manifest import Manifest, write_manifest
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import SplitRecord
from glot_jax.store.writer import ShardCounts, ShardWriter
from glot_jax.texts.tasks import TASKS, TaskSpec

SPEC = TASKS["embedding"]
PAIRS = dataclasses.replace(SPEC, text_columns=("query", "pos"))

Group = tuple[str, Sequence[str], Sequence[str]]
"""A query, its relevant texts, the others.

A text is "topic/name": equal texts have equal tokens.
"""


def topic_groups(
    rows: int, seed: int, *, positives: int = 2, negatives: int = 3, topics: int = 8
) -> list[Group]:
    """What is relevant to a query is of its topic; every text is another one.

    Every fifth row has a positive more.
    """
    rng, groups = np.random.default_rng(seed), []
    for row in range(rows):
        topic = int(rng.integers(topics))
        others = [(topic + int(rng.integers(1, topics))) % topics for _ in range(negatives)]
        wanted = [f"{topic}/{seed}-{row}-p{index}" for index in range(positives + (row % 5 == 0))]
        groups.append(
            (
                f"{topic}/{seed}-{row}-q",
                wanted,
                [f"{other}/{seed}-{row}-n{index}" for index, other in enumerate(others)],
            )
        )
    return groups


def states_of(text: str, dim: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """(states [length, dim], token ids [length]) of a text.

    Noise of its own, and in the first half of the dimensions its topic, faintly.
    """
    rng = np.random.default_rng(list(text.encode()))
    topic = np.random.default_rng((11, int(text.partition("/")[0]))).normal(size=dim // 2)
    length = int(rng.integers(1, longest + 1))
    states = 0.1 * rng.normal(size=(length, dim))
    states[:, : dim // 2] += 0.5 * topic
    states[:, dim // 2 :] += 2 * rng.normal(size=dim - dim // 2)
    return states, rng.integers(0, 1 << 30, length).astype(np.int32)


def make_ranking_store(
    folder: Path,
    splits: dict[str, list[Group]],
    spec: TaskSpec = SPEC,
    *,
    dim: int = 16,
    longest: int = 9,
    shards: int = 2,
) -> Path:
    """A finished store of these groups.

    Texts that occur twice are stored twice, with equal tokens and states.
    """
    records = {}
    for split, groups in splits.items():
        rows = [[query, *positives, *negatives] for query, positives, negatives in groups]
        texts = [states_of(text, dim, longest) for row in rows for text in row]
        offsets = np.cumsum([0, *map(len, rows)])
        arrays = {
            "row_offsets.npy": offsets.astype(np.int64),
            "row_texts.npy": np.arange(len(texts), dtype=np.int64),
            "roles.npy": (
                np.concatenate([np.minimum(np.arange(len(row)), 1) for row in rows]).astype(np.int8)
            ),
            "labels.npy": np.array([len(positives) for _, positives, _ in groups], np.float32),
        }
        (folder / split).mkdir(parents=True)
        for name, array in arrays.items():
            np.save(folder / split / name, array)
        sealed = []
        for index, chunk in enumerate(np.array_split(np.arange(len(texts)), shards)):
            lengths = np.array([len(texts[text][1]) for text in chunk], np.int32)
            states = np.concatenate([texts[text][0] for text in chunk]).astype(np.float16)
            with ShardWriter(
                folder / split,
                index,
                lengths,
                np.concatenate([texts[text][1] for text in chunk]),
                dim=dim,
                dtypes={2: "float16"},
            ) as shard:
                shard.put(2, 0, states)
                sealed.append(
                    shard.finish(
                        ShardCounts(truncated=0, empty=0, max_abs=float(np.abs(states).max()))
                    )
                )
        records[split] = SplitRecord(
            rows=len(rows),
            texts=len(texts),
            tokens=sum(one.tokens for one in sealed),
            truncated=0,
            empty=0,
            max_abs=max(one.max_abs for one in sealed),
            shards=tuple(sealed),
            arrays={
                name: {
                    "sha256": file_sha256(folder / split / name),
                    "bytes": (folder / split / name).stat().st_size,
                }
                for name in arrays
            },
        )
    recipe = Recipe.partial(
        backbone={"name": "synthetic", "sha256": "0" * 64, "revision": None},
        kind="encoder",
        num_layers=2,
        dim=dim,
        layers=(2,),
        storage_dtype="float16",
        more={"seed": 0},
    )
    write_manifest(folder, Manifest.build(recipe, spec.to_json(), records))
    return folder

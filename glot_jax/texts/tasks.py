"""What a task is: which columns hold its texts, what its labels mean, how it is scored. No file is
read here.

`TASKS` is the table behind `--task`. A new task is one more entry; the readers, the store and the
heads take everything they need from its `TaskSpec`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from glot_jax.config import json
from glot_jax.errors import require

SPLITS = (("train", "train"), ("validation", "validation"), ("test", "test"))
MNLI_SPLITS = tuple(
    (name, name)
    for name in (
        "train",
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
    )
)


@dataclass(frozen=True)
class Example:
    """One row of a split, as the extraction takes it.

    `texts` has one string per role of the task, possibly empty ones: `("A plane lands.", "It is
    down.")`. `label` is a class index (int, 0 .. C-1), a score in the task's own unit (float; STS-B
    0 .. 5), for a ranking the number of relevant candidates (float), which come first, or None.
    `row` counts the rows that are read, from 0 without gaps: after `--max-train-rows`, it is the
    index in the sample.
    """

    texts: tuple[str, ...]
    label: int | float | None
    row: int


@dataclass(frozen=True)
class TaskSpec:
    """A task's columns, labels and metrics; frozen, and the same after a round trip through JSON.

    For `custom` the table holds an outline and `glot_jax.texts.open_task` returns the spec filled
    in from the data.
    """

    name: str
    text_columns: tuple[str, ...]
    """Columns of the texts, in the order of `roles`."""
    roles: tuple[str, ...]
    """What each text is: ("text",), ("a", "b"), or ("text0", "text1", "text2", ...). Ranking:
    ("query", "candidate"), and every text after the first is a candidate; `text_columns` are the
    query's, the relevant and the other texts'."""
    label_column: str | None
    """Column of the label; None: there is none, and every `Example.label` is None (ranking:
    counted, not read).
    """
    label_kind: Literal["classes", "regression", "ranking", "none"]
    classes: tuple[str, ...] = ()
    """Class names; the position of a name is its label."""
    label_range: tuple[float, float] | None = None
    """Regression: smallest and largest score.

    A fixed task refuses scores outside; custom: the range of train.
    """
    metrics: tuple[str, ...] = ()
    """Metrics to report; the first one selects the best epoch."""
    hub: tuple[str, str | None] | None = None
    """Repository and configuration on the Hub; None: the task is not there."""
    splits: tuple[tuple[str, str], ...] = SPLITS
    """(our name, name on the Hub) in reading order: train, validation, test.

    Ours are the file names under --data.
    """
    max_length: int = 128
    """Default of --max-length: tokens, special tokens included."""
    max_train_rows: int | None = None
    """Default of --max-train-rows; None: all of them."""

    @property
    def is_similarity(self) -> bool:
        """A score for two texts: learned by the cosine of their projected vectors."""
        return self.label_kind == "regression" and len(self.roles) == 2

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, read back by `from_json`."""
        return json.to_json(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TaskSpec:
        """The spec that `to_json` wrote. UsageError for an unknown or a missing key."""
        needed = [
            field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
        ]
        missing = [name for name in needed if name not in values]
        require(
            not missing,
            f"a TaskSpec needs {', '.join(needed)}",
            f"no {', '.join(missing)}",
            "Add these fields.",
        )
        spec = json.from_json(cls, values)
        return dataclasses.replace(spec, splits=tuple((ours, hubs) for ours, hubs in spec.splits))


def roles_of(texts: int) -> tuple[str, ...]:
    """Names of the roles of a row with that many texts.

    >>> roles_of(1), roles_of(2), roles_of(3)
    (('text',), ('a', 'b'), ('text0', 'text1', 'text2'))
    """
    return {1: ("text",), 2: ("a", "b")}.get(texts) or tuple(
        f"text{index}" for index in range(texts)
    )


def _classes(
    name: str, columns: str, classes: str, metrics: str = "accuracy", **rest: Any
) -> TaskSpec:
    texts = tuple(columns.split())
    return TaskSpec(
        name,
        texts,
        roles_of(len(texts)),
        "label",
        "classes",
        tuple(classes.split()),
        metrics=tuple(metrics.split()),
        **{"hub": ("nyu-mll/glue", name), **rest},
    )


# Class names stand in the Hub's order: their position is the integer in the Hub's and GLUE's files.
_ALL = (
    _classes("cola", "sentence", "unacceptable acceptable", "mcc accuracy"),
    _classes("sst2", "sentence", "negative positive"),
    _classes("mrpc", "sentence1 sentence2", "not_equivalent equivalent", "f1 accuracy"),
    _classes(
        "qqp",
        "question1 question2",
        "not_duplicate duplicate",
        "f1 accuracy",
        max_train_rows=20_000,
    ),
    TaskSpec(
        "stsb",
        ("sentence1", "sentence2"),
        ("a", "b"),
        "label",
        "regression",
        label_range=(0.0, 5.0),
        metrics=("spearman", "pearson"),
        hub=("nyu-mll/glue", "stsb"),
    ),
    _classes(
        "mnli",
        "premise hypothesis",
        "entailment neutral contradiction",
        splits=MNLI_SPLITS,
        max_train_rows=20_000,
    ),
    _classes("qnli", "question sentence", "entailment not_entailment", max_train_rows=20_000),
    _classes("rte", "sentence1 sentence2", "entailment not_entailment"),
    _classes("wnli", "sentence1 sentence2", "not_entailment entailment"),
    # GLUE's diagnostic set: its labels are secret, so its states can be stored and nothing can be
    # scored.
    TaskSpec(
        "ax",
        ("premise", "hypothesis"),
        ("a", "b"),
        None,
        "none",
        hub=("nyu-mll/glue", "ax"),
        splits=(("test", "test"),),
    ),
    _classes(
        "imdb",
        "text",
        "neg pos",
        hub=("stanfordnlp/imdb", None),
        max_length=512,
        splits=(("train", "train"), ("test", "test")),
    ),
    # The stress test: 1 where the queried word is affirmed, 0 where it is negated.
    _classes("diagnostic", "text", "negated affirmed", hub=None),
    # Queries with relevant and other texts, as sentence-transformers' msmarco-triplets.jsonl:
    # glot_jax.texts.query_rows.
    TaskSpec(
        "embedding",
        ("query", "pos", "neg"),
        ("query", "candidate"),
        None,
        "ranking",
        metrics=("ndcg@10", "map", "mrr"),
    ),
    TaskSpec("custom", (), (), None, "none"),
)

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in _ALL}
"""Name of `--task` -> what it is."""

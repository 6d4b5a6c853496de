"""What a task is: which columns hold its texts, what its labels mean, how it is scored.

No file is read here. `TASKS` is the table behind `--task`. A new task with columns and labels of a
known kind is one more entry; the readers, the store and the heads take everything they need from
its `TaskSpec`. What is special about two tasks stands in tables beside it: `GENERATED` and
`FROM_DATA`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from glot_jax.config import json
from glot_jax.errors import UsageError

SPLITS = (("train", "train"), ("validation", "validation"), ("test", "test"))
"""(our name, name on the Hub) of the splits of most tasks."""
MNLI_SPLITS = (
    ("train", "train"),
    ("validation_matched", "validation_matched"),
    ("validation_mismatched", "validation_mismatched"),
    ("test_matched", "test_matched"),
    ("test_mismatched", "test_mismatched"),
)
# Tables and not fields of a spec: manifests hold specs, and must stay as they are.
GENERATED = frozenset(("diagnostic",))
"""Tasks whose texts are generated, not read from files (`stress_texts`)."""
FROM_DATA = frozenset(("custom",))
"""Tasks whose columns, labels and metrics are found in the data; the table holds an outline."""


Label = int | float | tuple[int, ...]
"""What a head learns to say of a row: see `Example.label`."""


@dataclass(frozen=True)
class Example:
    """One row of a split, as the extraction takes it."""

    texts: tuple[str, ...]
    """One string per role of the task, possibly empty ones: ("A plane lands.", "It is down.")."""
    label: Label | None
    """What a head learns to say of the row; None: it has no label.

    A class index (int, 0 to C - 1), the ascending indices of all its classes, of which there may be
    none (tuple), a score in the task's own unit (float; STS-B 0 to 5), or for a ranking the number
    of relevant candidates (float), which come first.
    """
    row: int
    """Number of the row among those that are read, from 0 without gaps.

    After `--max-train-rows`, it is the index in the sample.
    """


@dataclass(frozen=True)
class TaskSpec:
    """A task's columns, labels and metrics; frozen, and the same after a round trip through JSON.

    For a task of `FROM_DATA` the table holds an outline and `glot_jax.texts.open_task` returns the
    spec filled in from the data.
    """

    name: str
    text_columns: tuple[str, ...]
    """Columns of the texts, in the order of `roles`."""
    roles: tuple[str, ...]
    """What each text is: ("text",), ("a", "b"), or ("text0", "text1", "text2", ...).

    Ranking: ("query", "candidate"), and every text after the first is a candidate; `text_columns`
    are the query's, the relevant and the other texts'.
    """
    label_column: str | None
    """Column of the label; None: there is none, and every `Example.label` is None.

    A ranking's labels are counted, not read.
    """
    label_kind: Literal["classes", "multilabel", "regression", "ranking", "none"]
    """`classes`: a class a row; `multilabel`: any number of them, none included."""
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
    label_separator: str | None = None
    """multilabel: what stands between the names of a row's classes; None: they are a list."""

    @property
    def is_generated(self) -> bool:
        """Whether its texts are generated, so that there is no file to read."""
        return self.name in GENERATED

    @property
    def is_from_data(self) -> bool:
        """Whether the user names the columns, and the data tell what their labels mean."""
        return self.name in FROM_DATA

    @property
    def is_similarity(self) -> bool:
        """A score for two texts: learned by the cosine of their projected vectors."""
        return self.label_kind == "regression" and len(self.roles) == 2

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values, read back by `from_json`."""
        values = json.to_json(self)
        # Left out otherwise: a store of other labels keeps the content that earlier versions gave
        # it.
        if self.label_separator is None:
            del values["label_separator"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TaskSpec:
        """The spec that `to_json` wrote.

        Raises:
            UsageError: an unknown or a missing key.
        """
        fields = dataclasses.fields(cls)
        needed = [field.name for field in fields if field.default is dataclasses.MISSING]
        missing = [name for name in needed if name not in values]
        if missing:
            raise UsageError(
                rule=f"a TaskSpec needs {', '.join(needed)}",
                got=f"no {', '.join(missing)}",
                fix="Add these fields.",
            )
        spec = json.from_json(cls, values)
        # A spec is hashed, and the pairs inside come back from JSON as lists.
        splits = tuple((split, hub_name) for split, hub_name in spec.splits)
        return replace(spec, splits=splits)


def roles_of(count: int) -> tuple[str, ...]:
    """Names of the roles of a row with that many texts.

    >>> roles_of(1), roles_of(2), roles_of(3)
    (('text',), ('a', 'b'), ('text0', 'text1', 'text2'))
    """
    if count == 1:
        return ("text",)
    # A pair is symmetric or not, but neither text is the main one.
    if count == 2:
        return ("a", "b")
    return tuple(f"text{index}" for index in range(count))


def _classes(
    name: str,
    columns: str,
    classes: str,
    metrics: str = "accuracy",
) -> TaskSpec:
    """A task of GLUE with classes; names are separated by blanks."""
    text_columns = tuple(columns.split())
    return TaskSpec(
        name,
        text_columns,
        roles_of(len(text_columns)),
        label_column="label",
        label_kind="classes",
        classes=tuple(classes.split()),
        metrics=tuple(metrics.split()),
        hub=("nyu-mll/glue", name),
    )


# Class names stand in the Hub's order: their position is the integer in the Hub's and GLUE's files.
_MANY = 20_000
"""Rows of train that are taken where GLUE has a hundred thousand and more."""
_ALL = (
    _classes("cola", "sentence", "unacceptable acceptable", "mcc accuracy"),
    _classes("sst2", "sentence", "negative positive"),
    # GLUE scores these two by F1 first; the first metric selects the epoch.
    _classes("mrpc", "sentence1 sentence2", "not_equivalent equivalent", "f1 accuracy"),
    replace(
        _classes("qqp", "question1 question2", "not_duplicate duplicate", "f1 accuracy"),
        max_train_rows=_MANY,
    ),
    TaskSpec(
        "stsb",
        ("sentence1", "sentence2"),
        roles_of(2),
        label_column="label",
        label_kind="regression",
        # The scale that the annotators were given.
        label_range=(0.0, 5.0),
        metrics=("spearman", "pearson"),
        hub=("nyu-mll/glue", "stsb"),
    ),
    replace(
        _classes("mnli", "premise hypothesis", "entailment neutral contradiction"),
        splits=MNLI_SPLITS,
        max_train_rows=_MANY,
    ),
    replace(
        _classes("qnli", "question sentence", "entailment not_entailment"),
        max_train_rows=_MANY,
    ),
    _classes("rte", "sentence1 sentence2", "entailment not_entailment"),
    # Not the order of rte: the Hub has them so.
    _classes("wnli", "sentence1 sentence2", "not_entailment entailment"),
    # GLUE's diagnostic set: its labels are secret, so its states can be stored and nothing can be
    # scored.
    TaskSpec(
        "ax",
        ("premise", "hypothesis"),
        roles_of(2),
        label_column=None,
        label_kind="none",
        hub=("nyu-mll/glue", "ax"),
        splits=(("test", "test"),),
    ),
    replace(
        _classes("imdb", "text", "neg pos"),
        hub=("stanfordnlp/imdb", None),
        # Reviews are long: most of them do not fit into the 128 tokens of the other tasks.
        max_length=512,
        splits=(("train", "train"), ("test", "test")),
    ),
    # The stress test: 1 where the queried word is affirmed, 0 where it is negated.
    replace(_classes("diagnostic", "text", "negated affirmed"), hub=None),
    # Queries with relevant and other texts, as sentence-transformers' msmarco-triplets.jsonl:
    # glot_jax.texts.query_rows.
    TaskSpec(
        "embedding",
        ("query", "pos", "neg"),
        ("query", "candidate"),
        label_column=None,
        label_kind="ranking",
        metrics=("ndcg@10", "map", "mrr"),
    ),
    # An outline: `open_task` fills it in from the data.
    TaskSpec("custom", (), (), label_column=None, label_kind="none"),
)

TASKS: dict[str, TaskSpec] = {spec.name: spec for spec in _ALL}
"""Name of `--task` -> what it is."""


def selection_metric(task: TaskSpec, metric: str | None) -> str:
    """The metric that picks the best epoch: the one asked for, else the task's first.

    Raises:
        UsageError: the task is not judged by that metric.
    """
    if metric is None:
        return task.metrics[0]
    if metric not in task.metrics:
        raise UsageError(
            rule=f"--metric must be what task {task.name} is judged by: {', '.join(task.metrics)}",
            got=f"--metric {metric}",
            fix="Choose one of these.",
        )
    return metric


def require_one_class(task: TaskSpec, option: str) -> None:
    """Require that every row of a task has one of several classes.

    Raises:
        UsageError: it has scores, or several classes a row, or no labels.
    """
    if task.label_kind != "classes":
        raise UsageError(
            rule=f"{option} needs classes to tell apart, one for each row",
            got=f"task {task.name!r} with labels of kind {task.label_kind}",
            fix=f"Leave out {option}.",
        )

"""The splits of a task: examples that are read anew at every iteration, and the passes over a
source that make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import require
from glot_jax.texts.labels import LabelReader
from glot_jax.texts.query_rows import read_group
from glot_jax.texts.records import Record, Seen, Source, require_columns, require_text
from glot_jax.texts.survey import Survey
from glot_jax.texts.tasks import Example, TaskSpec


@dataclass(frozen=True)
class Split:
    """The examples of one split: `len(split)` of them, and the same ones in the same order at every
    iteration.
    """

    name: str
    rows: int
    read: Callable[[], Iterator[Example]]

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Example]:
        return self.read()


@dataclass(frozen=True)
class TaskData:
    """A task with its data.

    `spec` is the task's own, for `custom` with columns, classes or range as found; `splits` are in
    the task's order: train, validation, test. `notices` are lines for the user: splits left out,
    rows sampled.
    """

    spec: TaskSpec
    splits: dict[str, Split]
    notices: tuple[str, ...] = ()


def wanted_columns(spec: TaskSpec) -> list[str]:
    """Columns that are read: the texts' and the label's."""
    return [*spec.text_columns, *filter(None, [spec.label_column])]


def raw_labels(source: Source, spec: TaskSpec) -> Iterator[tuple[Any, str]]:
    """What every row has in the label column, and the row's place."""
    return ((raw_label(record, spec), record.place) for record in source.read(wanted_columns(spec)))


def raw_label(record: Record, spec: TaskSpec) -> Any:
    """What the row has in the label column, None where there is none."""
    return None if spec.label_column is None else record.values.get(spec.label_column)


def filtered(source: Source, keep: Callable[[Record], bool], what: str) -> Source:
    """The source without the records that `keep` refuses, which are counted: "train.csv: `what`: 3,
    first train.csv:7".
    """

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        gone = Seen()
        for record in source.read(wanted):
            if keep(record):
                yield record
            else:
                gone.add(record.place)
        if gone.count:
            source.remarks[what] = f"{source.name}: {what}: {gone.count}, first {gone.place}"

    return Source(source.name, source.typed, read, source.remarks)


def survey_split(source: Source, spec: TaskSpec) -> Survey:
    """Read a split once: every text is checked, every label counted by type. UsageError if it has
    no rows.
    """
    survey, columns = Survey(source.name, source.typed), {}
    for record in source.read(wanted_columns(spec)):
        texts_of(record, spec)
        columns.update(dict.fromkeys(record.columns))
        survey.add(raw_label(record, spec), record.place)
    require(
        survey.rows > 0,
        "a split has at least one row",
        f"{source.name} with none",
        "Fill the file or remove it.",
    )
    survey.columns = tuple(columns)
    return survey


def texts_of(record: Record, spec: TaskSpec) -> tuple[str, ...]:
    """The row's texts, as they are: empty ones too."""
    if spec.label_kind == "ranking":
        return read_group(record, spec)[0]
    require_columns(spec.text_columns, record.columns, record.columns_location)
    texts = tuple(record.values[column] for column in spec.text_columns)
    for column, text in zip(spec.text_columns, texts, strict=True):
        require_text(text, column, record.place)
    return texts


def task_data(
    config: ExtractConfig,
    labels: LabelReader,
    sources: Mapping[str, Source],
    rows: Mapping[str, int],
    notices: Iterable[str],
    *,
    whole: bool = False,
) -> TaskData:
    """Splits that read their source again at every iteration; train is sampled if the task or the
    user says so, unless `whole`.
    """
    limit, notices, splits = (
        None if whole else config.max_train_rows or labels.spec.max_train_rows,
        list(notices),
        {},
    )
    for name, source in sources.items():
        keep = None
        if name == "train" and limit is not None and limit < rows[name]:
            keep = _sample(rows[name], limit, config.sample_seed)
            notices.append(f"train: {limit} of {rows[name]} rows, seed {config.sample_seed}")
        splits[name] = _split(name, source, labels, rows[name] if keep is None else len(keep), keep)
    return TaskData(labels.spec, splits, tuple(notices))


def _sample(rows: int, limit: int, seed: int) -> np.ndarray:
    """Rows of a sample without replacement, ascending [limit] int64."""
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def _split(
    name: str, source: Source, labels: LabelReader, rows: int, keep: np.ndarray | None
) -> Split:
    def read() -> Iterator[Example]:
        records = source.read(wanted_columns(spec))
        if keep is not None:
            chosen = np.zeros(keep[-1] + 1, dtype=bool)
            chosen[keep] = True
            records = compress(records, chosen)
        for row, record in enumerate(records):
            label = None
            if spec.label_kind == "ranking":
                label = float(read_group(record, spec)[1])
            elif spec.label_column is not None:
                label = labels.read(raw_label(record, spec), record.place, source.typed)
            yield Example(texts_of(record, spec), label, row)

    spec = labels.spec
    return Split(name, rows, read)

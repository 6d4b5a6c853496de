"""The splits of a task: examples that are read anew at every iteration.

The passes over a source that make them stand here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.file_formats.records import (
    Columns,
    Record,
    Records,
    Seen,
    Source,
    Sources,
    require_columns,
    require_text,
)
from glot_jax.texts.labels import ReadsLabels
from glot_jax.texts.query_rows import read_group
from glot_jax.texts.survey import Survey
from glot_jax.texts.tasks import Example, TaskSpec


@dataclass(frozen=True)
class Split:
    """The examples of one split: the same ones in the same order at every iteration."""

    name: str
    rows: int
    """How many examples there are."""
    read: Callable[[], Iterator[Example]]
    """What an iteration calls: it opens the source again."""

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Example]:
        return self.read()


@dataclass(frozen=True)
class TaskData:
    """A task with its data."""

    spec: TaskSpec
    """The task's own; for `custom` with columns, classes or range as the data have them."""
    splits: dict[str, Split]
    """Name -> split, in the task's order: train, validation, test."""
    notices: tuple[str, ...] = ()
    """Lines for the user: splits left out, rows sampled, what was assumed."""


def columns_of(spec: TaskSpec) -> list[str]:
    """Columns that are read: the texts' and the label's."""
    columns = list(spec.text_columns)
    if spec.label_column:
        columns.append(spec.label_column)
    return columns


def raw_labels(source: Source, spec: TaskSpec) -> Iterator[tuple[object, str]]:
    """Yield what every row has in the label column, and the row's location."""
    for record in source.read(columns_of(spec)):
        yield raw_label(record, spec), record.location


def raw_label(record: Record, spec: TaskSpec) -> object:
    """What the row has in the label column, None where there is none."""
    if spec.label_column is None:
        return None
    return record.values.get(spec.label_column)


def filtered(
    source: Source,
    keep: Callable[[Record], bool],
    what: str,
) -> Source:
    """The source without the records that `keep` refuses.

    These are counted in a line for the user: "train.csv: `what`: 3, first train.csv:7".
    """

    def read(columns: Columns) -> Records:
        dropped = Seen()
        for record in source.read(columns):
            if keep(record):
                yield record
            else:
                dropped.add(record.location)
        if dropped.count:
            first = f"first {dropped.location}"
            source.remarks[what] = f"{source.name}: {what}: {dropped.count}, {first}"

    # The same remarks: what the source itself has to say is not lost.
    return replace(source, read=read)


def survey_split(source: Source, spec: TaskSpec) -> Survey:
    """Read a split once: every text is checked, every label counted by type.

    Raises:
        UsageError: with `file:line`, for a text that is not one; for a split without rows.
    """
    survey = Survey(source.name, source.typed)
    # A dict, since the order of the columns is that of the file, in messages too.
    columns: dict[str, None] = {}
    for record in source.read(columns_of(spec)):
        # For its errors alone: the texts are read again when they are tokenised.
        texts_of(record, spec)
        columns.update(dict.fromkeys(record.columns))
        survey.add(raw_label(record, spec), record.location)
    if survey.rows == 0:
        raise UsageError(
            rule="a split must have at least one row",
            got=f"{source.name} with none",
            fix="Fill the file or remove it.",
        )
    survey.columns = tuple(columns)
    return survey


def texts_of(record: Record, spec: TaskSpec) -> tuple[str, ...]:
    """The row's texts, as they are: empty ones too.

    Raises:
        UsageError: with `file:line`, for a column that is missing and for what is not a text.
    """
    if spec.label_kind == "ranking":
        return read_group(record, spec)[0]
    require_columns(spec.text_columns, record.columns, record.columns_location)
    texts: list[str] = []
    for column in spec.text_columns:
        text = record.values[column]
        texts.append(require_text(text, column, record.location))
    return tuple(texts)


def task_data(
    config: ExtractConfig,
    labels: ReadsLabels,
    sources: Sources,
    rows: Mapping[str, int],
    notices: Iterable[str],
    *,
    whole: bool = False,
) -> TaskData:
    """Make splits that read their source again at every iteration.

    Args:
        config: says how many rows of train are sampled, where the task does not.
        labels: reads the labels, and holds the task's spec.
        sources: split -> its records.
        rows: split -> how many records it has.
        notices: lines for the user; what is sampled is added.
        whole: take all rows, whatever the task says.
    """
    limit = None
    if not whole:
        # The user's number comes before the task's, also where it is larger.
        limit = config.max_train_rows or labels.spec.max_train_rows
    lines = list(notices)
    splits: dict[str, Split] = {}
    for name, source in sources.items():
        kept = None
        count = rows[name]
        # Other splits are whole: scores on a sample of them could not be compared.
        if name == "train" and limit is not None and limit < count:
            lines.append(f"train: {limit} of {count} rows, seed {config.sample_seed}")
            kept = _sample(count, limit, config.sample_seed)
            count = limit
        splits[name] = _split(name, source, labels, count, kept)
    return TaskData(
        spec=labels.spec,
        splits=splits,
        notices=tuple(lines),
    )


def _sample(rows: int, limit: int, seed: int) -> np.ndarray:
    """Rows of a sample without replacement, ascending [limit] int64."""
    # Sorted, since a source can be read forward only.
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(rows, limit, replace=False))


def _split(
    name: str,
    source: Source,
    labels: ReadsLabels,
    rows: int,
    kept: np.ndarray | None,
) -> Split:
    spec = labels.spec

    def read() -> Iterator[Example]:
        # Opened at every iteration: nothing is kept between two of them.
        records = source.read(columns_of(spec))
        if kept is not None:
            # One byte a row up to the last one of the sample, after which nothing is read.
            is_kept = np.zeros(kept[-1] + 1, dtype=bool)
            is_kept[kept] = True
            records = compress(records, is_kept)
        # Numbered after the sample: a store's rows have no gaps.
        for row, record in enumerate(records):
            label = None
            if spec.label_kind == "ranking":
                # A float, as `Example.label` is for a ranking.
                label = float(read_group(record, spec)[1])
            elif spec.label_column is not None:
                raw = raw_label(record, spec)
                label = labels.read(raw, record.location, source.typed)
            yield Example(texts_of(record, spec), label, row)

    return Split(
        name=name,
        rows=rows,
        read=read,
    )

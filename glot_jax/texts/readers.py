"""`open_task`: from a configuration to the examples of every split, checked before the first one is handed out.

A first pass over each split counts its rows and looks at every text and label, so a mistake in row 300,000 is reported
with its file and line before a language model is loaded. Examples are then streamed: a split is read anew whenever it
is iterated over, and is never in memory as a whole (the generated stress test is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from glot_jax.config import ExtractConfig, UsageError, lookup, require
from glot_jax.texts.diagnostic import StressRow, generate, words_in
from glot_jax.texts.formats import Record, Source, file_sources, hub_sources, require_columns, require_text
from glot_jax.texts.labels import LabelReader, Seen, Survey, custom_labels, known_labels
from glot_jax.texts.ranking import named_columns, read_group
from glot_jax.texts.tasks import TASKS, Example, TaskSpec, roles_of
from glot_jax.texts.written import listed

SPECIAL_TOKENS = 2
"""Fewest special tokens that a backbone adds to a text, usually [CLS] and [SEP]."""


@dataclass(frozen=True)
class Split:
    """The examples of one split: `len(split)` of them, and the same ones in the same order at every iteration."""

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

    `spec` is the task's own, for `custom` with columns, classes or range as found; `splits` are in the task's order:
    train, validation, test. `notices` are lines for the user: splits left out, rows sampled.
    """

    spec: TaskSpec
    splits: dict[str, Split]
    notices: tuple[str, ...] = ()


def open_task(config: ExtractConfig, *, vocabulary: Callable[[], Sequence[str]] | None = None, spec: TaskSpec | None = None) -> TaskData:
    """Examples of `config.task` from the folder `config.data`, from the Hub, or from a stress-test generator.

    `vocabulary` returns the backbone's whole words (`diagnostic.whole_words`) and is called for the stress test's
    protocol `paper` only. `spec` is that of a store whose rows are added to: its classes or range are taken as they are,
    no split is needed, and no row is left out. UsageError, with `file:line` where there is one, for everything that is wrong with the data.
    """
    known, spec = spec, lookup(TASKS, config.task, "task")
    _check_columns(config, spec)
    if spec.name == "diagnostic":
        return _stress_test(config, spec, vocabulary)
    sources = hub_sources(spec) if config.data is None else file_sources(config.data, spec)
    if spec.label_kind == "ranking":
        return _groups(config, named_columns(config.text_columns, spec), known, sources)
    if spec.name == "custom":
        spec = _custom_columns(config, spec, sources)
    if known is not None:
        return _more_rows(config, known, sources)
    if spec.label_column is None:
        rows = {name: _survey(source, spec).rows for name, source in sources.items()}
        return _task_data(config, LabelReader(spec), sources, rows, [])
    return _labelled(config, spec, sources)


def _check_columns(config: ExtractConfig, spec: TaskSpec) -> None:
    flags = (("--text-columns", config.text_columns if spec.label_kind != "ranking" else ()), ("--label-column", config.label_column))
    given = [name for name, value in flags if value]
    require(
        spec.name == "custom" or not given, f"task {spec.name} fixes its columns: {', '.join(spec.text_columns)}",
        " and ".join(given), f"Leave out {' and '.join(given)}, or use --task custom.",
    )


def _custom_columns(config: ExtractConfig, spec: TaskSpec, sources: Mapping[str, Source]) -> TaskSpec:
    """The spec with the columns named on the command line, which every split must have."""
    if not config.text_columns:
        first = next(iter(sources.values()))
        columns = listed(next(first.read([]), Record("", {}, [])).columns) or "none"
        raise UsageError("--task custom needs --text-columns", "none", f"Columns of {first.name}: {columns}.")
    names = tuple(config.text_columns)
    return replace(spec, text_columns=names, roles=roles_of(len(names)), label_column=config.label_column)


def _groups(config: ExtractConfig, spec: TaskSpec, known: TaskSpec | None, sources: Mapping[str, Source]) -> TaskData:
    """Queries with their texts; the column of negatives is the spec's only if some split has it."""
    surveys = {name: _survey(source, spec) for name, source in sources.items()}
    there = {column for survey in surveys.values() for column in survey.columns}
    spec = replace(spec, text_columns=tuple(column for column in spec.text_columns if column in there))
    if known is not None:
        require(
            known.name == spec.name and spec.text_columns in (known.text_columns, known.text_columns[:2]),
            f"the store holds task {known.name}, texts from {', '.join(known.text_columns)}", f"--task {spec.name}, {', '.join(spec.text_columns)}",
            "Repeat the options that the store was made with.",
        )
        spec = known
    rows = {name: survey.rows for name, survey in surveys.items()}
    return _task_data(config, LabelReader(spec), sources, rows, [], whole=known is not None)


# ---------------------------------------------------------------------------------------------------------------------
# Labels over all splits


def _labelled(config: ExtractConfig, spec: TaskSpec, sources: Mapping[str, Source]) -> TaskData:
    files = ", ".join(source.name for source in sources.values())
    fix = "Add a file train.jsonl, .csv, .tsv or .parquet."
    require("train" in sources, f"task {spec.name} needs a train split", files, fix)
    surveys = {name: _survey(source, spec) for name, source in sources.items()}
    labels = _label_reader(spec, sources["train"], surveys)
    kept, notices = {}, []
    for name, survey in surveys.items():
        gaps = labels.gaps(survey)
        if gaps.count == survey.rows:
            why = _why(spec, sources[name], survey)
            notices.append(f"{name}: skipped, none of its {survey.rows} rows has a label ({why})")
            continue
        _require_complete(name, survey, gaps)
        kept[name] = sources[name]
    for source in kept.values():
        for raw, place in _raw_labels(source, spec):
            labels.read(raw, place, source.typed)
    return _task_data(config, labels, kept, {name: surveys[name].rows for name in kept}, notices)


def _more_rows(config: ExtractConfig, spec: TaskSpec, sources: Mapping[str, Source]) -> TaskData:
    """Rows for a store of this spec, read from the columns that its own were read from."""
    columns = config.text_columns if config.task == "custom" else TASKS[config.task].text_columns
    label = config.label_column if config.task == "custom" else TASKS[config.task].label_column
    require(
        (config.task, tuple(columns), label) == (spec.name, spec.text_columns, spec.label_column),
        f"the store holds task {spec.name}, texts from {', '.join(spec.text_columns)}, labels from {spec.label_column}",
        f"--task {config.task}, {', '.join(columns)}, {label}", "Repeat the options that the store was made with.",
    )
    surveys = {name: _survey(source, spec) for name, source in sources.items()}
    labels = known_labels(spec)
    if spec.label_kind != "none":
        for name, source in sources.items():
            _require_complete(name, surveys[name], labels.gaps(surveys[name]))
            for raw, place in _raw_labels(source, spec):
                labels.read(raw, place, source.typed)
    return _task_data(config, labels, sources, {name: survey.rows for name, survey in surveys.items()}, [], whole=True)


def _label_reader(spec: TaskSpec, train: Source, surveys: Mapping[str, Survey]) -> LabelReader:
    """The reader of a fixed task's labels, or the one that a custom task's data ask for. Train must have labels."""
    custom = spec.name == "custom"
    gaps = surveys["train"].kinds.get("missing", Seen()) if custom else surveys["train"].gaps
    require(
        gaps.count < surveys["train"].rows, f"the train split needs labels in column {spec.label_column!r}",
        _why(spec, train, surveys["train"]), "Name or add the column of the labels.",
    )
    if not custom:
        return LabelReader(spec)
    _require_complete("train", surveys["train"], gaps)
    labelled = {name: survey for name, survey in surveys.items() if name == "train" or survey.may_be_labelled}
    return custom_labels(spec, labelled, _raw_labels(train, spec))


def _require_complete(name: str, survey: Survey, gaps: Seen) -> None:
    counts = f"rows of {name} without one: {gaps.count}, with one: {survey.rows - gaps.count}"
    require(
        gaps.count == 0, "a split is labelled throughout or not at all",
        f"{gaps.place}: no label (empty, null or -1); {counts}", "Label these rows or drop them.",
    )


def _raw_labels(source: Source, spec: TaskSpec) -> Iterator[tuple[Any, str]]:
    return ((_raw_label(record, spec), record.place) for record in source.read(_wanted(spec)))


def _raw_label(record: Record, spec: TaskSpec) -> Any:
    return None if spec.label_column is None else record.values.get(spec.label_column)


def _why(spec: TaskSpec, source: Source, survey: Survey) -> str:
    if spec.label_column in survey.columns:
        return f"all are empty, null or -1 in {source.name}"
    return f"{source.name} has no column {spec.label_column!r}; columns there: {listed(survey.columns)}"


# ---------------------------------------------------------------------------------------------------------------------
# Passes over one split


def _wanted(spec: TaskSpec) -> list[str]:
    return [*spec.text_columns, *filter(None, [spec.label_column])]


def _survey(source: Source, spec: TaskSpec) -> Survey:
    """Read a split once: every text is checked, every label counted by type. UsageError if it has no rows."""
    survey, columns = Survey(source.name, source.typed), {}
    for record in source.read(_wanted(spec)):
        _texts(record, spec)
        columns.update(dict.fromkeys(record.columns))
        survey.add(_raw_label(record, spec), record.place)
    require(survey.rows > 0, "a split has at least one row", f"{source.name} with none", "Fill the file or remove it.")
    survey.columns = tuple(columns)
    return survey


def _texts(record: Record, spec: TaskSpec) -> tuple[str, ...]:
    """The row's texts, as they are: empty ones too."""
    if spec.label_kind == "ranking":
        return read_group(record, spec)[0]
    require_columns(spec.text_columns, record.columns, record.place)
    texts = tuple(record.values[column] for column in spec.text_columns)
    for column, text in zip(spec.text_columns, texts, strict=True):
        require_text(text, column, record.place)
    return texts


def _task_data(
    config: ExtractConfig, labels: LabelReader, sources: Mapping[str, Source], rows: Mapping[str, int],
    notices: Iterable[str], *, whole: bool = False,
) -> TaskData:
    """Splits that read their source again at every iteration; train is sampled if the task or the user says so, unless `whole`."""
    limit, notices, splits = None if whole else config.max_train_rows or labels.spec.max_train_rows, list(notices), {}
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


def _split(name: str, source: Source, labels: LabelReader, rows: int, keep: np.ndarray | None) -> Split:
    def read() -> Iterator[Example]:
        records = source.read(_wanted(spec))
        if keep is not None:
            chosen = np.zeros(keep[-1] + 1, dtype=bool)
            chosen[keep] = True
            records = compress(records, chosen)
        for row, record in enumerate(records):
            label = None
            if spec.label_kind == "ranking":
                label = float(read_group(record, spec)[1])
            elif spec.label_column is not None:
                label = labels.read(_raw_label(record, spec), record.place, source.typed)
            yield Example(_texts(record, spec), label, row)

    spec = labels.spec
    return Split(name, rows, read)


# ---------------------------------------------------------------------------------------------------------------------
# The stress test


def _stress_test(config: ExtractConfig, spec: TaskSpec, vocabulary: Callable[[], Sequence[str]] | None) -> TaskData:
    require(config.data is None, "task diagnostic is generated", f"--data {config.data}", "Leave out --data.")
    require(
        config.max_train_rows is None, "the stress test has the rows that --diagnostic-rows asks for",
        f"--max-train-rows {config.max_train_rows}", "Leave it out and set --diagnostic-rows.",
    )
    words = None
    if config.protocol == "paper":
        spec, shortest = replace(spec, max_length=512), words_in("paper") + SPECIAL_TOKENS
        require(
            (config.max_length or spec.max_length) >= shortest,
            "no text of the protocol paper is cut: its signal could be lost",
            f"--max-length {config.max_length}", f"Give {shortest} or more.",
        )
        words = vocabulary() if vocabulary else None
    generated = generate(
        config.protocol, ratio=config.ratio, rows=config.diagnostic_rows, seed=config.sample_seed, vocabulary=words,
        distance=config.distance, position=config.position,
    )
    splits = {name: _generated_split(name, rows) for name, rows in generated.items()}
    return TaskData(spec, splits)


def _generated_split(name: str, rows: Sequence[StressRow]) -> Split:
    examples: list[Any] = [Example((row.text,), row.label, index) for index, row in enumerate(rows)]
    return Split(name, len(rows), lambda: iter(examples))

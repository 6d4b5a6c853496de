"""`open_task`: from a configuration to the examples of every split, checked before the first one is
handed out.

A first pass over each split counts its rows and looks at every text and label, so a mistake in row
300,000 is reported with its file and line before a language model is loaded. Examples are then
streamed: a split is read anew whenever it is iterated over, and is never in memory as a whole (the
generated stress test is).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError, lookup, require
from glot_jax.texts.labels import LabelReader, custom_labels, known_labels
from glot_jax.texts.query_rows import has_relevant, named_columns
from glot_jax.texts.quoting import listed
from glot_jax.texts.records import Record, Seen, Source, did_you_mean
from glot_jax.texts.splits import (
    Split,
    TaskData,
    filtered,
    raw_label,
    raw_labels,
    survey_split,
    task_data,
)
from glot_jax.texts.stress_texts import StressRow, generate, words_in
from glot_jax.texts.survey import GAPS, Survey, gap_kinds
from glot_jax.texts.task_sources import open_sources
from glot_jax.texts.tasks import TASKS, Example, TaskSpec, roles_of

SPECIAL_TOKENS = 2
"""Fewest special tokens that a backbone adds to a text, usually [CLS] and [SEP]."""


def open_task(
    config: ExtractConfig,
    *,
    vocabulary: Callable[[], Sequence[str]] | None = None,
    spec: TaskSpec | None = None,
) -> TaskData:
    """Examples of `config.task` from the folder or file `config.data`, from the Hub, or from a
    stress-test generator.

    `vocabulary` returns the backbone's whole words (`stress_texts.whole_words`) and is called for
    the stress test's protocol `paper` only. `spec` is that of a store whose rows are added to: its
    classes or range are taken as they are, no split is needed, and no row is left out but those
    without a label, if the configuration says so. UsageError, with `file:line` where there is one,
    for everything that is wrong with the data.
    """
    known, spec = spec, lookup(TASKS, config.task, "task")
    _check_options(config, spec)
    if spec.name == "diagnostic":
        return _stress_test(config, spec, vocabulary)
    if spec.label_kind == "ranking":
        spec = named_columns(config.text_columns, spec)
    elif spec.name == "custom":
        names = tuple(config.text_columns)
        spec = replace(
            spec, text_columns=names, roles=roles_of(len(names)), label_column=config.label_column
        )
    sources, notices = open_sources(config, spec)
    if spec.label_kind == "ranking":
        return _groups(config, spec, known, sources, notices)
    if not spec.text_columns:
        _ask_for_columns(sources)
    if known is not None:
        return _more_rows(config, known, sources, notices)
    if spec.label_column is None:
        rows = {name: survey_split(source, spec).rows for name, source in sources.items()}
        return task_data(config, LabelReader(spec), sources, rows, [*notices, *_remarks(sources)])
    return _labelled(config, spec, sources, notices)


def _check_options(config: ExtractConfig, spec: TaskSpec) -> None:
    """Columns and kinds are given where a task leaves them open."""
    columns = config.text_columns if spec.label_kind != "ranking" else ()
    flags = (("--text-columns", columns), ("--label-column", config.label_column))
    given = [name for name, value in flags if value]
    require(
        spec.name == "custom" or not given,
        f"task {spec.name} fixes its columns: {', '.join(spec.text_columns)}",
        " and ".join(given),
        f"Leave out {' and '.join(given)}, or use --task custom.",
    )
    asked = f"--label-kind {config.label_kind}"
    open_kind = spec.name == "custom" and config.label_column is not None
    rule = "--label-kind is for --task custom with --label-column"
    require(
        open_kind or config.label_kind == "auto",
        rule,
        f"{asked}, task {spec.name}",
        "Leave it out.",
    )
    labelled = open_kind or spec.label_kind != "none"
    rule = "--drop-unlabelled is for tasks with labels"
    require(
        labelled or not config.drop_unlabelled,
        rule,
        f"task {spec.name} without any",
        "Leave it out.",
    )


def _ask_for_columns(sources: Mapping[str, Source]) -> None:
    first = next(iter(sources.values()))
    columns = listed(next(first.read([]), Record("", {}, [])).columns) or "none"
    raise UsageError(
        "--task custom needs --text-columns", "none", f"Columns of {first.name}: {columns}."
    )


def _remarks(sources: Mapping[str, Source]) -> list[str]:
    """What the passes over the sources had to say, each line once."""
    return list(
        dict.fromkeys(line for source in sources.values() for line in source.remarks.values())
    )


def _groups(
    config: ExtractConfig,
    spec: TaskSpec,
    known: TaskSpec | None,
    sources: Mapping[str, Source],
    notices: Sequence[str],
) -> TaskData:
    """Queries with their texts; the column of negatives is the spec's only if some split has it."""
    if config.drop_unlabelled:
        what = "rows without a relevant text are left out"
        sources = {
            name: filtered(source, lambda row: has_relevant(row, spec), what)
            for name, source in sources.items()
        }
    surveys = {name: survey_split(source, spec) for name, source in sources.items()}
    there = {column for survey in surveys.values() for column in survey.columns}
    found = replace(
        spec, text_columns=tuple(column for column in spec.text_columns if column in there)
    )
    if known is not None:
        require(
            known.name == found.name
            and found.text_columns in (known.text_columns, known.text_columns[:2]),
            f"the store holds task {known.name}, texts from {', '.join(known.text_columns)}",
            f"--task {found.name}, {', '.join(found.text_columns)}",
            "Repeat the options that the store was made with.",
        )
        found = known
    rows = {name: survey.rows for name, survey in surveys.items()}
    lines = [*notices, *_remarks(sources)]
    return task_data(config, LabelReader(found), sources, rows, lines, whole=known is not None)


# --------------------------------------------------------------------------------------------------
# Labels over all splits


def _labelled(
    config: ExtractConfig, spec: TaskSpec, sources: Mapping[str, Source], notices: Sequence[str]
) -> TaskData:
    files = ", ".join(source.name for source in sources.values())
    files = "; ".join([files, *(line for line in notices if line.startswith("not read"))])
    fix = "Add a file train.jsonl, .csv, .tsv or .parquet, or name one: --data FILE."
    require("train" in sources, f"task {spec.name} needs a train split", files, fix)
    surveys = {name: survey_split(source, spec) for name, source in sources.items()}
    labels, assumed = _label_reader(config, spec, sources["train"], surveys)
    kept, rows, skipped = {}, {}, []
    for name, survey in surveys.items():
        gaps = labels.gaps(survey)
        if gaps.count == survey.rows:
            why = _why(spec, sources[name], survey)
            skipped.append(f"{name}: skipped, none of its {survey.rows} rows has a label ({why})")
            continue
        kept[name] = _complete(config, name, sources[name], survey, labels)
        rows[name] = survey.rows - gaps.count
    _check_labels(kept, labels)
    # What a skipped split was read from is worth a line too.
    lines = [*notices, *_remarks({**sources, **kept}), *assumed, *skipped]
    return task_data(config, labels, kept, rows, lines)


def _more_rows(
    config: ExtractConfig, spec: TaskSpec, sources: Mapping[str, Source], notices: Sequence[str]
) -> TaskData:
    """Rows for a store of this spec, read from the columns that its own were read from."""
    columns = config.text_columns if config.task == "custom" else TASKS[config.task].text_columns
    label = config.label_column if config.task == "custom" else TASKS[config.task].label_column
    fix = "Repeat the options that the store was made with."
    require(
        (config.task, tuple(columns), label) == (spec.name, spec.text_columns, spec.label_column),
        f"the store holds task {spec.name}, texts from {', '.join(spec.text_columns)}, "
        f"labels from {spec.label_column}",
        f"--task {config.task}, {', '.join(columns)}, {label}",
        fix,
    )
    asked = config.label_kind
    require(
        asked in ("auto", spec.label_kind),
        f"the store holds {spec.label_kind}",
        f"--label-kind {asked}",
        fix,
    )
    surveys = {name: survey_split(source, spec) for name, source in sources.items()}
    rows = {name: survey.rows for name, survey in surveys.items()}
    labels = known_labels(spec)
    if spec.label_kind != "none":
        kept = {
            name: _complete(config, name, source, surveys[name], labels)
            for name, source in sources.items()
        }
        rows = {name: survey.rows - labels.gaps(survey).count for name, survey in surveys.items()}
        _check_labels(kept, labels)
        sources = kept
    return task_data(config, labels, sources, rows, [*notices, *_remarks(sources)], whole=True)


def _complete(
    config: ExtractConfig, name: str, source: Source, survey: Survey, labels: LabelReader
) -> Source:
    """The source, if all of its rows have labels, or those rows that have, if the others may be
    left out.
    """
    gaps = labels.gaps(survey)
    if not config.drop_unlabelled or gaps.count in (0, survey.rows):
        _require_complete(name, survey, gaps)
        return source
    spec = labels.spec
    what = f"rows of {name} without a label, of {survey.rows}, left out"
    return filtered(source, lambda row: not labels.is_gap(raw_label(row, spec), source.typed), what)


def _check_labels(sources: Mapping[str, Source], labels: LabelReader) -> None:
    for source in sources.values():
        for raw, place in raw_labels(source, labels.spec):
            labels.read(raw, place, source.typed)


def _label_reader(
    config: ExtractConfig, spec: TaskSpec, train: Source, surveys: Mapping[str, Survey]
) -> tuple[LabelReader, list[str]]:
    """The reader of a fixed task's labels, or the one that a custom task's data ask for. Train must
    have labels.
    """
    custom = spec.name == "custom"
    survey, asked = surveys["train"], config.label_kind
    kinds = gap_kinds(survey, asked, drop=config.drop_unlabelled) if custom else GAPS
    gaps = survey.gaps(kinds, minus_one=not custom)
    require(
        gaps.count < survey.rows,
        f"the train split needs labels in column {spec.label_column!r}",
        _why(spec, train, survey),
        f"{_meant(spec, survey)}Name or add the column of the labels.",
    )
    if not custom:
        return LabelReader(spec), []
    # Of a column of any type, a gap is what is missing.
    train = _complete(config, "train", train, survey, LabelReader(spec, "str", kinds))
    labelled = {
        name: other for name, other in surveys.items() if name == "train" or other.may_be_labelled
    }
    return custom_labels(spec, labelled, lambda: raw_labels(train, spec), asked, kinds)


def _require_complete(name: str, survey: Survey, gaps: Seen) -> None:
    counts = f"rows of {name} without one: {gaps.count}, with one: {survey.rows - gaps.count}"
    require(
        gaps.count == 0,
        "a split is labelled throughout or not at all",
        f"{gaps.place}: no label (empty, null, NA or -1); {counts}",
        "Label these rows or drop them; --drop-unlabelled leaves them out.",
    )


def _meant(spec: TaskSpec, survey: Survey) -> str:
    column = str(spec.label_column)
    return did_you_mean([column], survey.columns) if column not in survey.columns else ""


def _why(spec: TaskSpec, source: Source, survey: Survey) -> str:
    column = str(spec.label_column)
    if column in survey.columns:
        return f"all are empty, null or -1 in {source.name}"
    return f"{source.name} has no column {column!r}; columns there: {listed(survey.columns)}"


# --------------------------------------------------------------------------------------------------
# The stress test


def _stress_test(
    config: ExtractConfig, spec: TaskSpec, vocabulary: Callable[[], Sequence[str]] | None
) -> TaskData:
    require(
        config.data is None,
        "task diagnostic is generated",
        f"--data {config.data}",
        "Leave out --data.",
    )
    require(
        config.max_train_rows is None,
        "the stress test has the rows that --diagnostic-rows asks for",
        f"--max-train-rows {config.max_train_rows}",
        "Leave it out and set --diagnostic-rows.",
    )
    words = None
    if config.protocol == "paper":
        spec, shortest = replace(spec, max_length=512), words_in("paper") + SPECIAL_TOKENS
        require(
            (config.max_length or spec.max_length) >= shortest,
            "no text of the protocol paper is cut: its signal could be lost",
            f"--max-length {config.max_length}",
            f"Give {shortest} or more.",
        )
        words = vocabulary() if vocabulary else None
    generated = generate(
        config.protocol,
        ratio=config.ratio,
        rows=config.diagnostic_rows,
        seed=config.sample_seed,
        vocabulary=words,
        distance=config.distance,
        position=config.position,
    )
    splits = {name: _generated_split(name, rows) for name, rows in generated.items()}
    return TaskData(spec, splits)


def _generated_split(name: str, rows: Sequence[StressRow]) -> Split:
    examples: list[Any] = [Example((row.text,), row.label, index) for index, row in enumerate(rows)]
    return Split(name, len(rows), lambda: iter(examples))

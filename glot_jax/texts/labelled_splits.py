"""Labels over all splits of a task: how they are read, which splits and rows have none.

A split is labelled throughout or not at all. One without labels is skipped with a line, a few rows
without any are an error, unless they are to be left out (`--drop-unlabelled`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import listed
from glot_jax.file_formats.records import Record, Seen, Source, Sources, did_you_mean
from glot_jax.texts.custom_labels import custom_labels
from glot_jax.texts.label_lists import has_label_lists, outline, with_classes
from glot_jax.texts.label_types import GAPS
from glot_jax.texts.labels import LabelReader, RawLabels, ReadsLabels
from glot_jax.texts.splits import filtered, raw_label, raw_labels, survey_split
from glot_jax.texts.survey import Survey, Surveys, gap_kinds
from glot_jax.texts.tasks import TaskSpec


@dataclass(frozen=True)
class LabelledSplits:
    """The splits of a task that have labels."""

    labels: ReadsLabels
    sources: Sources
    """Split -> its rows with a label."""
    rows: Mapping[str, int]
    """Split -> how many these are."""
    notices: Sequence[str]
    """Lines for the user: what was assumed of the labels, and which splits were skipped."""


def labelled_splits(
    config: ExtractConfig,
    spec: TaskSpec,
    sources: Sources,
    notices: Sequence[str],
) -> LabelledSplits:
    """Look at the labels of all splits, and then at every single one.

    Args:
        config: the options of extract.py.
        spec: the task, with a label column.
        sources: split -> its rows.
        notices: lines about the files; those about files that are not read go into an error.

    Raises:
        UsageError: with `file:line`, for a label that is not one and for a row without one; for
            a train split that is missing or has no labels.
    """
    if "train" not in sources:
        names = ", ".join(source.name for source in sources.values())
        # A train file under an odd name is among those that were not read.
        unread = [line for line in notices if line.startswith("not read")]
        raise UsageError(
            rule=f"task {spec.name} needs a train split",
            got="; ".join([names, *unread]),
            fix="Add a file train.jsonl, .csv, .tsv or .parquet, or name one: --data FILE.",
        )
    surveys = {name: survey_split(source, spec) for name, source in sources.items()}
    labels, assumed = _label_reader(config, spec, sources["train"], surveys)
    kept: dict[str, Source] = {}
    rows: dict[str, int] = {}
    skipped: list[str] = []
    for name, survey in surveys.items():
        gaps = labels.gaps(survey)
        # As GLUE's test sets are: nothing could be scored on their rows.
        if gaps.count == survey.rows:
            reason = _why_unlabelled(spec, sources[name], survey)
            none = f"none of its {survey.rows} rows has a label"
            skipped.append(f"{name}: skipped, {none} ({reason})")
            continue
        kept[name] = complete(config, name, sources[name], survey, labels)
        rows[name] = survey.rows - gaps.count
    # The survey has seen types alone; a class that train lacks is found here.
    require_readable(kept, labels)
    return LabelledSplits(
        labels=labels,
        sources=kept,
        rows=rows,
        notices=[*assumed, *skipped],
    )


def complete(
    config: ExtractConfig,
    name: str,
    source: Source,
    survey: Survey,
    labels: ReadsLabels,
) -> Source:
    """The rows of a split that have labels.

    Raises:
        UsageError: with the first row without a label, unless such rows may be left out.
    """
    gaps = labels.gaps(survey)
    if not config.drop_unlabelled or gaps.count in (0, survey.rows):
        _require_complete(name, survey, gaps)
        return source
    spec = labels.spec

    def has_label(record: Record) -> bool:
        return not labels.is_gap(raw_label(record, spec), source.typed)

    # The same line at every pass: it is said once.
    what = f"rows of {name} without a label, of {survey.rows}, left out"
    return filtered(source, has_label, what)


def require_readable(sources: Sources, labels: ReadsLabels) -> None:
    """Raise UsageError for the first label that the reader cannot read."""
    for source in sources.values():
        for raw, location in raw_labels(source, labels.spec):
            labels.read(raw, location, source.typed)


def _label_reader(
    config: ExtractConfig,
    spec: TaskSpec,
    train: Source,
    surveys: Surveys,
) -> tuple[ReadsLabels, list[str]]:
    """The reader of a fixed task's labels, or the one that a custom task's data ask for.

    Returns it with lines about what was assumed; raises UsageError if train has no labels.
    """
    survey = surveys["train"]
    # Before gaps are looked for: an empty cell is a row of no class there.
    if spec.is_from_data and has_label_lists(config, survey):
        lists = outline(config, spec)
        _require_labels(lists.gaps(survey), spec, train, survey)
        train = complete(config, "train", train, survey, lists)
        return with_classes(lists, survey, raw_labels(train, spec))
    # A fixed task has no class that is called NA.
    kinds = GAPS
    if spec.is_from_data:
        kinds = gap_kinds(survey, config.label_kind, drop=config.drop_unlabelled)
    # -1 is no label where the task's classes begin with 0, and may be one of a custom task's.
    gaps = survey.gaps(kinds, minus_one=not spec.is_from_data)
    _require_labels(gaps, spec, train, survey)
    if not spec.is_from_data:
        return LabelReader(spec), []
    # Of a column of any type, a gap is what is missing.
    reader = LabelReader(spec, "str", kinds)
    train = complete(config, "train", train, survey, reader)
    labelled: dict[str, Survey] = {}
    for name, other in surveys.items():
        # A test split of nothing but -1 says nothing about the type of the column.
        if name == "train" or other.may_be_labelled:
            labelled[name] = other

    def train_labels() -> RawLabels:
        return raw_labels(train, spec)

    return custom_labels(spec, labelled, train_labels, config.label_kind, kinds)


def _require_labels(gaps: Seen, spec: TaskSpec, train: Source, survey: Survey) -> None:
    """Raise UsageError where no row of train has a label."""
    if gaps.count == survey.rows:
        raise UsageError(
            rule=f"the train split needs labels in column {spec.label_column!r}",
            got=_why_unlabelled(spec, train, survey),
            fix=f"{_similar_column(spec, survey)}Name or add the column of the labels.",
        )


def _require_complete(name: str, survey: Survey, gaps: Seen) -> None:
    if gaps.count:
        counts = f"rows of {name} without one: {gaps.count}, with one: {survey.rows - gaps.count}"
        raise UsageError(
            rule="a split must be labelled throughout or not at all",
            got=f"{gaps.location}: no label (empty, null, NA or -1); {counts}",
            fix="Label these rows or drop them; --drop-unlabelled leaves them out.",
        )


def _similar_column(spec: TaskSpec, survey: Survey) -> str:
    column = str(spec.label_column)
    if column in survey.columns:
        return ""
    return did_you_mean([column], survey.columns)


def _why_unlabelled(spec: TaskSpec, source: Source, survey: Survey) -> str:
    column = str(spec.label_column)
    if column in survey.columns:
        return f"all are empty, null or -1 in {source.name}"
    return f"{source.name} has no column {column!r}; columns there: {listed(survey.columns)}"

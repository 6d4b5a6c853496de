"""`open_task`: from a configuration to the examples of every split.

Everything is checked before the first example is handed out: a first pass over each split counts
its rows and looks at every text and label, so a mistake in row 300,000 is reported with its file
and line before a language model is loaded. Examples are then streamed: a split is read anew
whenever it is iterated over, and is never in memory as a whole (the generated stress test is).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.file_formats.quoting import listed
from glot_jax.file_formats.records import Record, Source, Sources
from glot_jax.texts.label_lists import reader_of
from glot_jax.texts.labelled_splits import complete, labelled_splits, require_readable
from glot_jax.texts.labels import LabelReader
from glot_jax.texts.query_rows import has_relevant, named_columns
from glot_jax.texts.splits import TaskData, filtered, survey_split, task_data
from glot_jax.texts.stress_task import stress_test
from glot_jax.texts.task_sources import open_sources
from glot_jax.texts.tasks import TASKS, TaskSpec, roles_of

_REPEAT = "Repeat the options that the store was made with."


def open_task(
    config: ExtractConfig,
    *,
    vocabulary: Callable[[], Sequence[str]] | None = None,
    spec: TaskSpec | None = None,
) -> TaskData:
    """Examples of `config.task`, all of them checked.

    They come from the folder or file `config.data`, from the Hub, or from a stress-test generator.

    Args:
        config: the options of extract.py.
        vocabulary: returns the backbone's whole words (`stress_words.whole_words`); it is called
            for the stress test's protocol `paper` only.
        spec: that of a store whose rows are added to. Its classes or range are taken as they are,
            no split is needed, and no row is left out but those without a label, if the
            configuration says so.

    Raises:
        UsageError: with `file:line` where there is one, for everything that is wrong with the
            data.
    """
    # The name is checked before any file is opened, so that a slip costs nothing.
    task = lookup(TASKS, config.task, "task")
    _check_options(config, task)
    # No columns and no file: nothing below applies.
    if task.is_generated:
        return stress_test(config, task, vocabulary)
    task = _with_columns(config, task)
    # From here on files are read; all options that can be refused without them have been.
    sources, notices = open_sources(config, task)
    if task.label_kind == "ranking":
        return _rankings(config, task, spec, sources, notices)
    if not task.text_columns:
        # After the files are open, so that the message can list their columns.
        raise _no_text_columns(sources)
    # What labels mean is settled by the rows that the store has.
    if spec is not None:
        return _more_rows(config, spec, sources, notices)
    if task.label_column is None:
        rows = {name: survey_split(source, task).rows for name, source in sources.items()}
        lines = [*notices, *_remarks(sources)]
        return task_data(config, LabelReader(task), sources, rows, lines)
    labelled = labelled_splits(config, task, sources, notices)
    # What a skipped split was read from is worth a line too.
    remarks = _remarks({**sources, **labelled.sources})
    lines = [*notices, *remarks, *labelled.notices]
    return task_data(config, labelled.labels, labelled.sources, labelled.rows, lines)


def check_task(config: ExtractConfig) -> None:
    """Check the options and the beginnings of the files in `config.data`, and no row.

    Raises:
        UsageError: what `open_task` would raise for them, in a fraction of its time.
    """
    task = lookup(TASKS, config.task, "task")
    _check_options(config, task)
    # A data set on the Hub is not asked for before it is needed.
    if task.is_generated or config.data is None:
        return
    task = _with_columns(config, task)
    sources, _ = open_sources(config, task)
    if not task.text_columns:
        raise _no_text_columns(sources)


def _with_columns(config: ExtractConfig, task: TaskSpec) -> TaskSpec:
    """The task with the columns that it leaves open."""
    if task.label_kind == "ranking":
        return named_columns(config.text_columns, task)
    if not task.is_from_data:
        return task
    columns = tuple(config.text_columns)
    return replace(
        task,
        text_columns=columns,
        roles=roles_of(len(columns)),
        label_column=config.label_column,
    )


def _check_options(config: ExtractConfig, task: TaskSpec) -> None:
    """Raise UsageError for columns and kinds that the task does not leave open."""
    flags: list[str] = []
    # A ranking has columns of its own, and may be told what they are called.
    if config.text_columns and task.label_kind != "ranking":
        flags.append("--text-columns")
    if config.label_column:
        flags.append("--label-column")
    if flags and not task.is_from_data:
        named = " and ".join(flags)
        raise UsageError(
            rule=f"task {task.name} must be read from its own columns: "
            f"{', '.join(task.text_columns)}",
            got=named,
            fix=f"Leave out {named}, or use --task custom.",
        )
    has_open_labels = task.is_from_data and config.label_column is not None
    if config.label_kind != "auto" and not has_open_labels:
        raise UsageError(
            rule="--label-kind needs --task custom with --label-column",
            got=f"--label-kind {config.label_kind}, task {task.name}",
            fix="Leave it out.",
        )
    if config.label_separator is not None and not has_open_labels:
        raise UsageError(
            rule="--label-separator needs --task custom with --label-column",
            got=f"--label-separator {config.label_separator}, task {task.name}",
            fix="Leave it out.",
        )
    has_labels = has_open_labels or task.label_kind != "none"
    if config.drop_unlabelled and not has_labels:
        raise UsageError(
            rule="--drop-unlabelled needs a task with labels",
            got=f"task {task.name} without any",
            fix="Leave it out.",
        )


def _no_text_columns(sources: Sources) -> UsageError:
    first = next(iter(sources.values()))
    record = next(first.read([]), Record("", {}, []))
    return UsageError(
        rule="--task custom needs --text-columns",
        got="none",
        fix=f"Columns of {first.name}: {listed(record.columns) or 'none'}.",
    )


def _remarks(sources: Sources) -> list[str]:
    """What the passes over the sources had to say, each line once."""
    lines: dict[str, None] = {}
    for source in sources.values():
        lines.update(dict.fromkeys(source.remarks.values()))
    return list(lines)


def _rankings(
    config: ExtractConfig,
    task: TaskSpec,
    store_spec: TaskSpec | None,
    sources: Sources,
    notices: Sequence[str],
) -> TaskData:
    """Queries with their texts."""
    if config.drop_unlabelled:
        sources = {name: _with_relevant(source, task) for name, source in sources.items()}
    surveys = {name: survey_split(source, task) for name, source in sources.items()}
    # Of all splits: one of them may have judged every text relevant.
    present: set[str] = set()
    for survey in surveys.values():
        present.update(survey.columns)
    # The column of negatives is the spec's only if some split has it.
    columns = tuple(column for column in task.text_columns if column in present)
    spec = replace(task, text_columns=columns)
    if store_spec is not None:
        # Rows without negatives may be added to a store that has some.
        fits = columns in (store_spec.text_columns, store_spec.text_columns[:2])
        if store_spec.name != spec.name or not fits:
            raise UsageError(
                rule=_rule_of_store(store_spec),
                got=f"--task {spec.name}, {', '.join(columns)}",
                fix=_REPEAT,
            )
        spec = store_spec
    rows = {name: survey.rows for name, survey in surveys.items()}
    lines = [*notices, *_remarks(sources)]
    # Rows that are added are all taken: the sample was drawn when the store was made.
    whole = store_spec is not None
    return task_data(config, LabelReader(spec), sources, rows, lines, whole=whole)


def _with_relevant(source: Source, task: TaskSpec) -> Source:
    what = "rows without a relevant text are left out"
    return filtered(source, lambda record: has_relevant(record, task), what)


def _rule_of_store(spec: TaskSpec) -> str:
    columns = ", ".join(spec.text_columns)
    return f"rows for this store must be of task {spec.name}, texts from {columns}"


def _more_rows(
    config: ExtractConfig,
    spec: TaskSpec,
    sources: Sources,
    notices: Sequence[str],
) -> TaskData:
    """Rows for a store of this spec, read from the columns that its own were read from."""
    _require_same_columns(config, spec)
    surveys = {name: survey_split(source, spec) for name, source in sources.items()}
    labels = reader_of(spec)
    rows = {name: survey.rows for name, survey in surveys.items()}
    if spec.label_kind != "none":
        kept: dict[str, Source] = {}
        for name, source in sources.items():
            kept[name] = complete(config, name, source, surveys[name], labels)
            rows[name] -= labels.gaps(surveys[name]).count
        # Every label, now: an error in the last row must not come after hours of a forward pass.
        require_readable(kept, labels)
        sources = kept
    lines = [*notices, *_remarks(sources)]
    return task_data(config, labels, sources, rows, lines, whole=True)


def _require_same_columns(config: ExtractConfig, spec: TaskSpec) -> None:
    """Raise UsageError where the options are not those of the store that is added to."""
    task = TASKS[config.task]
    columns = task.text_columns
    label_column = task.label_column
    if task.is_from_data:
        columns = tuple(config.text_columns)
        label_column = config.label_column
    # The columns decide what a text is: others would make one store of two tasks.
    options = (task.name, columns, label_column)
    if options != (spec.name, spec.text_columns, spec.label_column):
        raise UsageError(
            rule=f"{_rule_of_store(spec)}, labels from {spec.label_column}",
            got=f"--task {task.name}, {', '.join(columns)}, {label_column}",
            fix=_REPEAT,
        )
    if config.label_separator != spec.label_separator:
        raise UsageError(
            rule="labels for this store must be separated as its own are",
            got=f"--label-separator {config.label_separator}, {spec.label_separator} in the store",
            fix=_REPEAT,
        )
    if config.label_kind not in ("auto", spec.label_kind):
        raise UsageError(
            rule=f"labels for this store must be {spec.label_kind}",
            got=f"--label-kind {config.label_kind}",
            fix=_REPEAT,
        )

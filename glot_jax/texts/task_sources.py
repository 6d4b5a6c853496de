"""From `--data`, `--validation-file` and `--encoding` to the source of every split.

A split comes from the Hub, from a folder, from a retrieval collection, or from one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import Reading, open_file
from glot_jax.file_formats.glue_files import LAYOUTS, NO_LAYOUT, renamed
from glot_jax.file_formats.records import Source, chained
from glot_jax.file_formats.text_form import check_encoding
from glot_jax.texts.beir import beir_sources, find_beir
from glot_jax.texts.folders import find_splits
from glot_jax.texts.hub_datasets import hub_sources
from glot_jax.texts.query_rows import grouped
from glot_jax.texts.tasks import TaskSpec

_BESIDE = "--validation-file must stand beside --data FILE"


def open_sources(config: ExtractConfig, spec: TaskSpec) -> tuple[dict[str, Source], list[str]]:
    """Open the task's splits.

    Returns:
        The sources in the task's order of the splits, and lines for the user about which files
        they are.

    Raises:
        UsageError: a path that is not there, options that do not fit it, whatever is wrong with
            the files' form.
    """
    # Before any file is opened: a misspelt name is no fault of a file.
    check_encoding(config.encoding)
    data = config.data
    validation = config.validation_file
    if data is None:
        if validation is not None:
            raise UsageError(
                rule=_BESIDE,
                got=f"--validation-file {validation} without --data",
                fix="Give --data FILE too.",
            )
        return hub_sources(spec), []
    # A link to nothing is a file that somebody named.
    is_file = data.exists() or data.is_symlink()
    if data.is_dir() or not is_file:
        if validation is not None and data.is_dir():
            raise UsageError(
                rule=_BESIDE,
                got=f"--validation-file {validation} and the folder {data}",
                fix="Put the file into the folder as validation, or name the training file: "
                "--data FILE.",
            )
        return _from_folder(config, data, spec)
    return _from_file(config, data, spec)


def _from_file(
    config: ExtractConfig,
    data: Path,
    spec: TaskSpec,
) -> tuple[dict[str, Source], list[str]]:
    # The task's first split: train, where there is anything to train on.
    files = {spec.splits[0][0]: [data]}
    notices: list[str] = []
    is_trained = spec.label_column is not None or spec.label_kind == "ranking"
    if config.validation_file is not None:
        files[_validation_split(spec)] = [config.validation_file]
    elif is_trained:
        notices.append(
            f"{data} is the train split; there is no validation split, "
            "so training sets a holdout of it aside"
        )
    return _opened(config, files, spec), notices


def _from_folder(
    config: ExtractConfig,
    folder: Path,
    spec: TaskSpec,
) -> tuple[dict[str, Source], list[str]]:
    # Whoever names columns has rows of a query with its texts, whatever else lies there.
    if spec.label_kind == "ranking" and not config.text_columns:
        collection = find_beir(folder)
        if collection is not None:
            return beir_sources(collection, spec, config.encoding)
    splits = find_splits(folder, spec)
    return _opened(config, splits.files, spec), list(splits.notices)


def _validation_split(spec: TaskSpec) -> str:
    names = [split for split, _ in spec.splits]
    if "train" not in names:
        raise UsageError(
            rule="--validation-file needs a task that is trained",
            got=f"task {spec.name}",
            fix="Leave it out.",
        )
    # MNLI has two of them: the first one.
    for name in names:
        if name.startswith("validation"):
            return name
    return "validation"


def _opened(
    config: ExtractConfig,
    files: Mapping[str, Sequence[Path]],
    spec: TaskSpec,
) -> dict[str, Source]:
    layout = LAYOUTS.get(spec.name, NO_LAYOUT)
    is_ranking = spec.label_kind == "ranking"
    # Without names, a query and its texts are found by what data sets call them, or by position.
    by_position = is_ranking and not config.text_columns
    columns = () if by_position else spec.text_columns
    label = layout.columns.get(str(spec.label_column), spec.label_column)
    # 1,5 may be the classes 1 and 5 of a row, and is no number then.
    if config.label_separator is not None or config.label_kind == "multilabel":
        label = None
    reading = Reading(
        encoding=config.encoding,
        columns=columns,
        layout=layout,
        label=label,
        arrays=by_position,
        # A label would need a column of its own, so that the file must be a table.
        lines=columns == ("text",) and spec.label_column is None,
    )
    sources: dict[str, Source] = {}
    for split, paths in files.items():
        # Renamed part by part: one file of a split may be GLUE's own and another not.
        parts: list[Source] = []
        for path in paths:
            part = open_file(path, reading)
            parts.append(renamed(part, layout, spec.label_column))
        source = chained(parts, f"{paths[0]} ... {paths[-1].name}")
        if is_ranking:
            source = grouped(source, spec, named=not by_position)
        sources[split] = source
    return sources

"""From `--data`, `--validation-file` and `--encoding` to the source of every split: the Hub, a
folder, or one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import require
from glot_jax.texts.beir import beir_sources, find_beir
from glot_jax.texts.folders import find_splits
from glot_jax.texts.formats import Reading, open_file
from glot_jax.texts.glue_files import LAYOUTS, NO_LAYOUT, renamed
from glot_jax.texts.hub_datasets import hub_sources
from glot_jax.texts.query_rows import grouped
from glot_jax.texts.records import Source, chained
from glot_jax.texts.tasks import TaskSpec
from glot_jax.texts.text_lines import check_encoding


def open_sources(config: ExtractConfig, spec: TaskSpec) -> tuple[dict[str, Source], list[str]]:
    """The task's splits in its order, and lines for the user about which files they are.

    UsageError for a path that is not there, for options that do not fit it, for whatever is wrong
    with the files' form.
    """
    check_encoding(config.encoding)
    data, validation = config.data, config.validation_file
    given = f"--validation-file {validation}"
    rule = "--validation-file stands beside --data FILE"
    require(
        validation is None or data is not None,
        rule,
        f"{given} without --data",
        "Give --data FILE too.",
    )
    if data is None:
        return hub_sources(spec), []
    # A link to nothing is a file that somebody named.
    if data.is_dir() or not (data.exists() or data.is_symlink()):
        fix = "Put the file into the folder as validation, or name the training file: --data FILE."
        require(
            validation is None or not data.is_dir(), rule, f"{given} and the folder {data}", fix
        )
        return _from_folder(config, data, spec)
    files = {spec.splits[0][0]: [data]}
    if validation is not None:
        files[_validation_split(spec)] = [validation]
    notices = []
    trains = spec.label_column is not None or spec.label_kind == "ranking"
    if validation is None and trains:
        notices.append(
            f"{data} is the train split; there is no validation split, "
            "so training sets a holdout of it aside"
        )
    return _opened(config, files, spec), notices


def _from_folder(
    config: ExtractConfig, folder: Path, spec: TaskSpec
) -> tuple[dict[str, Source], list[str]]:
    collection = (
        find_beir(folder) if spec.label_kind == "ranking" and not config.text_columns else None
    )
    if collection is not None:
        return beir_sources(collection, spec, config.encoding)
    found = find_splits(folder, spec)
    return _opened(config, found.files, spec), list(found.notices)


def _validation_split(spec: TaskSpec) -> str:
    names = [split for split, _ in spec.splits]
    require(
        "train" in names,
        "--validation-file is for tasks that are trained",
        f"task {spec.name}",
        "Leave it out.",
    )
    return next((name for name in names if name.startswith("validation")), "validation")


def _opened(
    config: ExtractConfig, files: Mapping[str, Sequence[Path]], spec: TaskSpec
) -> dict[str, Source]:
    layout = LAYOUTS.get(spec.name, NO_LAYOUT)
    ranking = spec.label_kind == "ranking"
    by_position = ranking and not config.text_columns
    wanted = () if by_position else spec.text_columns
    lines = wanted == ("text",) and spec.label_column is None
    label = layout.columns.get(str(spec.label_column), spec.label_column)
    reading = Reading(config.encoding, wanted, layout, label, arrays=by_position, lines=lines)
    sources = {}
    for split, paths in files.items():
        opened = [renamed(open_file(path, reading), layout, spec.label_column) for path in paths]
        source = chained(opened, f"{paths[0]} ... {paths[-1].name}")
        sources[split] = grouped(source, spec, named=not by_position) if ranking else source
    return sources

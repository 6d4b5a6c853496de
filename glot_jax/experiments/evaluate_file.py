"""A trained run judged on any labelled file.

The file's texts go through the run's backbone into a store, which is then scored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glot_jax.config.location import Location
from glot_jax.errors import UsageError
from glot_jax.moved import renamed_keywords

if TYPE_CHECKING:
    from glot_jax.run_folders.run_folder import CheckpointName
    from glot_jax.texts.tasks import TaskSpec
    from glot_jax.training.evaluation import JudgedSplit


@renamed_keywords(which="checkpoint")
def evaluate_file(run: Path, data: Path, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Metrics of a run's head on labelled rows that its store does not have.

    Arguments and errors are those of `judge_file`.

    Returns:
        Split -> metric -> value.
    """
    judged = judge_file(run, data, **options)
    return {split: dict(result.scores) for split, result in judged.items()}


def judge_file(
    run: Path,
    data: Path,
    *,
    store: Location | None = None,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
    encoding: str | None = None,
    drop_unlabelled: bool = False,
) -> dict[str, JudgedSplit]:
    """Judge a run's head on labelled rows that its store does not have.

    Args:
        run: run folder.
        data: a file of any format that extract.py reads, in the columns the run was trained on,
            reported as "test"; or a folder of such files by split.
        store: keep the states there, to be read again by the same call; otherwise they are thrown
            away.
        backbone: where the model lies, if the run knows it only by the name of a folder.
        checkpoint: "best" or "last".
        encoding: of text files without a byte-order mark; None: UTF-8.
        drop_unlabelled: leave out rows without a label, and say how many.

    Returns:
        Split -> scores and predictions, rows in the order of the file.

    Raises:
        UsageError: no such file, columns or classes that the run does not know, or a backbone that
            is not the run's.
    """
    from glot_jax.backbones.from_recipe import config_from
    from glot_jax.extraction import dump
    from glot_jax.run_folders.run_folder import RunFolder
    from glot_jax.training.evaluation import judge_run

    folder = RunFolder.open(run)
    folder.require_head()
    spec = folder.model.task
    _require_rows(data, spec)
    # Without --store the states are as large as ever, and are thrown away with the folder.
    with tempfile.TemporaryDirectory() as scratch:
        rows = _as_folder(data, Path(scratch) / "data", spec)
        config = config_from(
            folder.recipe,
            layers=folder.model.layers,
            backbone=backbone,
            task=spec.name,
            data=rows.folder,
            out=store or Path(scratch) / "store",
            storage_dtype=folder.recipe.storage_dtype,
            encoding=encoding,
            drop_unlabelled=drop_unlabelled,
            **_columns(spec),
        )
        try:
            dump(config, spec=spec)
        except UsageError as error:
            raise _about_the_file(error, rows.file, data, run) from error
        return judge_run(run, store=config.out, checkpoint=checkpoint)


def _require_rows(data: Path, spec: TaskSpec) -> None:
    if spec.is_generated:
        raise UsageError(
            rule="--data must not be given for the stress test, whose texts are generated",
            got=f"--data {data}",
            fix="Extract another store and give it as --store.",
        )
    if not data.exists():
        raise UsageError(
            rule="--data must be a file or a folder of labelled rows",
            got=f"{data}, which does not exist",
            fix="Check the path.",
        )


def _columns(spec: TaskSpec) -> dict[str, Any]:
    """The columns of a file, where the run was not trained on those of its task's own files."""
    from glot_jax.texts.tasks import TASKS

    # A ranking task has columns of its own unless the run was trained on others.
    if spec.label_kind == "ranking":
        own_column = TASKS[spec.name].text_columns[0]
        if spec.text_columns[0] != own_column:
            return {"text_columns": spec.text_columns}
    if spec.is_from_data:
        return {
            "text_columns": spec.text_columns,
            "label_column": spec.label_column,
            # None where labels are lists, which need none.
            "label_separator": spec.label_separator,
        }
    return {}


class _Rows(NamedTuple):
    """Labelled rows as a folder of files by split."""

    folder: Path
    file: Path
    """What the user named, or the link to it in the folder."""


def _as_folder(data: Path, folder: Path, spec: TaskSpec) -> _Rows:
    """A single file under the name of the split that was held back, whatever it is called."""
    from glot_jax.file_formats.formats import OPENERS, is_data_name, name_parts

    if not data.is_file():
        return _Rows(data, data)
    if not is_data_name(data.name):
        raise UsageError(
            rule="--data must be a file of a known format",
            got=data,
            fix=f"Formats: {', '.join(OPENERS)}, also as .gz and .zst.",
        )
    # The suffixes decide how it is read, so they are kept; an uncompressed file has only one.
    _, suffix, compression = name_parts(data.name)
    split = spec.splits[-1][0]
    name = ".".join(filter(None, [split, suffix, compression]))
    folder.mkdir()
    # A link, not a copy: the file may be large.
    link = folder / name
    link.symlink_to(data.resolve())
    return _Rows(folder, link)


def _about_the_file(
    error: UsageError,
    link: Path,
    data: Path,
    run: Path,
) -> UsageError:
    """The error about `link`, in terms of the file that the user named."""
    # The link is gone when the message is read, and its name was never the user's.
    rule = error.rule.replace(str(link), str(data))
    # `got` may be any value that an error was raised with.
    got = str(error.got)
    got = got.replace(str(link), str(data))
    fix = error.fix.replace(str(link), str(data))
    named = f"for {run}" if str(data) in got else f"reading {data} for {run}"
    return UsageError(rule=rule, got=f"{got} ({named})", fix=fix)

"""A trained run judged on any labelled file: its texts go through the run's backbone into a store,
which is then scored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.errors import UsageError, require
from glot_jax.moved import renamed_keywords

if TYPE_CHECKING:
    from glot_jax.training.run_folder import CheckpointName


@renamed_keywords(which="checkpoint")
def evaluate_file(
    run: Path,
    data: Path,
    *,
    store: Path | None = None,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
    encoding: str | None = None,
    drop_unlabelled: bool = False,
) -> dict[str, Any]:
    """Metrics of a run's head on labelled rows that its store does not have: {split: {metric:
    value}}.

    Args:
        data: a file of any format that extract.py reads, in the columns the run was trained on,
            reported as "test"; or a folder of such files by split.
        store: keep the states there, to be read again by the same call; otherwise they are thrown
            away.
        backbone: where the model lies, if the run knows it only by the name of a folder.
        encoding: of text files without a byte-order mark; None: UTF-8.
        drop_unlabelled: leave out rows without a label, and say how many.

    Raises:
        UsageError: no such file, columns or classes that the run does not know, or a backbone that
            is not the run's.
    """
    from glot_jax.extraction import dump
    from glot_jax.extraction.from_recipe import config_from
    from glot_jax.texts.formats import OPENERS, is_data_name, name_parts
    from glot_jax.texts.tasks import TASKS
    from glot_jax.training.evaluation import evaluate_run
    from glot_jax.training.run_folder import RunFolder

    folder = RunFolder.open(run)
    folder.require_head()
    spec = folder.model.task
    require(
        spec.name != "diagnostic",
        "texts of the stress test are generated",
        f"--data {data}",
        "Extract another store and give it as --store.",
    )
    require(
        data.exists(),
        "--data is a file or a folder of labelled rows",
        f"{data}, which does not exist",
        "Check the path.",
    )
    recipe = folder.recipe
    custom = (
        {"text_columns": spec.text_columns, "label_column": spec.label_column}
        if spec.name == "custom"
        else {}
    )
    if spec.label_kind == "ranking" and spec.text_columns[0] != TASKS[spec.name].text_columns[0]:
        custom = {"text_columns": spec.text_columns}
    with tempfile.TemporaryDirectory() as scratch:
        rows = data
        link = data
        if data.is_file():
            rows = Path(scratch) / "data"
            rows.mkdir()
            _, suffix, compression = name_parts(data.name)
            suffixes = ".".join(filter(None, [suffix, compression]))
            formats = ", ".join(OPENERS)
            require(
                is_data_name(data.name),
                "--data is a file of a known format",
                data,
                f"Formats: {formats}, also as .gz and .zst.",
            )
            # Under the name of the split that was held back, whatever the file is called.
            link = rows / f"{spec.splits[-1][0]}.{suffixes}"
            link.symlink_to(data.resolve())
        config = config_from(
            recipe,
            layers=folder.model.layers,
            backbone=backbone,
            task=spec.name,
            data=rows,
            out=store or Path(scratch) / "store",
            storage_dtype=recipe.storage_dtype,
            encoding=encoding,
            drop_unlabelled=drop_unlabelled,
            **custom,
        )
        try:
            dump(config, spec=spec)
        except UsageError as error:
            raise _about_the_file(error, link, data, run) from error
        return evaluate_run(run, store=config.out, checkpoint=checkpoint)


def _about_the_file(error: UsageError, link: Path, data: Path, run: Path) -> UsageError:
    """The error about `link`, in terms of the file that the user named."""
    # The link is gone when the message is read, and its name was never the user's.
    rule = error.rule.replace(str(link), str(data))
    got = str(error.got).replace(str(link), str(data))
    fix = error.fix.replace(str(link), str(data))
    named = f"for {run}" if str(data) in got else f"reading {data} for {run}"
    return UsageError(rule, f"{got} ({named})", fix)

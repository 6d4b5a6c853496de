"""`read_runs`: run folders as a pandas DataFrame."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.errors import UsageError
from glot_jax.reporting.finished_runs import FinishedRun, find_runs

if TYPE_CHECKING:
    import pandas

_Folder = str | os.PathLike[str]


def read_runs(folders: _Folder | Sequence[_Folder]) -> pandas.DataFrame:
    """The finished runs in or under some folders, a row each, in the order of their paths.

    | columns | what |
    | --- | --- |
    | run, task, backbone, layers, layer, store, seed | which run it is; layer: where it is one |
    | every setting that its pooler reads | as `--help` names them; missing where it is not read |
    | best.SPLIT.METRIC, last.SPLIT.METRIC | at the epoch that was chosen, and at the last |
    | epochs.SPLIT.METRIC | the score of every epoch, a list |
    | epoch, selected_on | the chosen epoch from 1, and the split that chose it |
    | parameters, seconds.train, ... | trained numbers, and seconds of its parts |
    | health, learned | names of what looked wrong (docs/health.md); whether it has learned |

    Args:
        folders: run folders, or folders that hold some.

    Raises:
        UsageError: a folder that does not exist, no finished run in any of them, or pandas is not
            installed.
    """
    try:
        # Not at the top: most users of the package have no table in mind.
        import pandas
    except ImportError as error:
        raise UsageError(
            rule="read_runs needs pandas",
            got=str(error),
            fix="pip install pandas",
        ) from error

    # A text is a sequence of texts as well.
    paths = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    runs, _ = find_runs([Path(path) for path in paths])
    return pandas.DataFrame([_row(run) for run in runs])


def _row(run: FinishedRun) -> dict[str, Any]:
    summary = run.summary
    row: dict[str, Any] = {
        "run": str(run.path),
        "task": run.task,
        "backbone": run.backbone_name,
        "layers": list(run.model.layers),
        "store": summary.store,
        "seed": run.config.seed,
        # A setting that the pooler does not read says nothing about the run.
        **run.settings,
        # By its number: the settings may leave it open, and a table is grouped by it.
        "layer": None if run.model.mixed or not run.model.layers else run.model.layers[0],
    }
    for split, scores in summary.splits.items():
        for name in scores.best:
            # Of the epoch itself there is one, not one for each split.
            if name == "epoch":
                continue
            row[f"best.{split}.{name}"] = scores.best[name]
            row[f"last.{split}.{name}"] = scores.last.get(name)
            row[f"epochs.{split}.{name}"] = [value for _, value in run.curve(split, name)]
    return {
        **row,
        "epoch": summary.selecting.best.get("epoch"),
        "selected_on": summary.selected_on,
        "parameters": summary.trained_parameters,
        **{f"seconds.{name}": value for name, value in summary.seconds.items()},
        "health": [finding.name for finding in summary.health],
        "learned": summary.has_learned,
    }

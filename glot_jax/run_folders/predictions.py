"""What a run's best epoch predicted for every evaluation row: `predictions.npz` in the run folder.

Intervals, paired tests and reports read this file alone: they need no store, no model and no
device.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.files import write_npz
from glot_jax.objectives.metrics import Predictions
from glot_jax.run_folders.run_log import resume_hint

FILE = "predictions.npz"


def write_predictions(run: Path, splits: Mapping[str, Predictions]) -> None:
    """Write the file so that it is absent or whole."""
    # One flat file, because an .npz has no folders.
    arrays: dict[str, np.ndarray] = {}
    for split, predictions in splits.items():
        for name, values in predictions._asdict().items():
            arrays[f"{split}/{name}"] = values
    write_npz(run / FILE, arrays, again=resume_hint(run))


def read_predictions(run: Path) -> dict[str, Predictions]:
    """{split: Predictions} of a finished run.

    Raises:
        UsageError: the run has no such file, or it is damaged.
    """
    path = Path(run) / FILE
    fix = f"glot evaluate {run} computes the scores again; train.py --resume {run} writes the file."
    if not path.is_file():
        raise UsageError(
            rule=f"a finished run must have {FILE}", got=f"{run}, which has none", fix=fix
        )
    try:
        # Opened here: of a damaged archive numpy leaves the file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            predictions = {}
            for name in arrays.files:
                # Names are split/field; a split's first one decides its place in the order.
                split, _, _ = name.partition("/")
                if split in predictions:
                    continue
                fields = [arrays[f"{split}/{field}"] for field in Predictions._fields]
                predictions[split] = Predictions(*fields)
            return predictions
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            rule=f"{FILE} must be readable", got=f"{path}: {error}", fix=f"Delete it; {fix}"
        ) from error

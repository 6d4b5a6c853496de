"""The parameters of a run as safetensors, with its settings as JSON.

It is the folder that `save_pretrained` writes, so `TextClassifier.from_pretrained` loads it too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.files import file_sha256, require_empty, whole_folder
from glot_jax.inference.estimators import ESTIMATORS
from glot_jax.inference.loading import TrainedHead
from glot_jax.inference.pretrained import WEIGHTS, PlainHead, read_head, save_head
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder


def export_parameters(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    checkpoint: CheckpointName = "best",
) -> dict[str, Any]:
    """Write every array of stem, pooler and head, and the settings.

    docs/plain-jax.md computes with them in plain JAX.

    Args:
        run: run folder.
        out: a new or empty folder, which gets config.json and model.safetensors.
        checkpoint: "best" or "last".

    Returns:
        {folder, task, parameters: {name: shape}, sha256}; the hash is that of model.safetensors.

    Raises:
        UsageError: no run, a folder that is not empty or cannot be written, or arrays that were not
            read back as they were written.
    """
    out = Path(out)
    require_empty(
        out,
        rule="an export must go to a new folder",
        fix="Choose another one, or remove it.",
    )
    folder = RunFolder.open(run)
    head = TrainedHead(folder, folder.load_model(checkpoint), checkpoint)
    plain = PlainHead.of_run(head)
    # The folder appears when it was read again and is the same.
    with whole_folder(out) as temporary:
        save_head(temporary, plain, _estimator(head))
        _require_equal(temporary, plain)
        digest = file_sha256(temporary / WEIGHTS)
    # Sorted, as safetensors writes them: two exports of a run print the same.
    shapes = {name: list(array.shape) for name, array in sorted(plain.arrays.items())}
    return {
        "folder": str(out),
        "task": folder.model.task.name,
        "parameters": shapes,
        "sha256": digest,
    }


def _estimator(head: TrainedHead) -> dict[str, Any]:
    """What an estimator of this head would save; nothing for a run that answers nothing."""
    kind = ESTIMATORS.get(head.folder.model.task.label_kind)
    if kind is not None:
        return kind.of_head(head).saved_values()
    return {}


def _require_equal(folder: Path, head: PlainHead) -> None:
    """Require that the folder gives the arrays back bit for bit."""
    again, _ = read_head(folder)
    # Builds the model as well: settings that do not fit the arrays are refused.
    again.model()
    for name, array in head.arrays.items():
        # By bytes: a nan is not equal to itself.
        if again.arrays[name].tobytes() != array.tobytes():
            raise UsageError(
                rule="parameters must be read back as they were written",
                got=f"{name}, changed",
                fix="Check the disk, and export again.",
            )

"""An exported folder as a repository on the Hub."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.errors import UsageError
from glot_jax.export.code_references import require_own_code
from glot_jax.export.model_card import CODE_FILES, FACTS
from glot_jax.export.st_folder import export_sentence_transformers
from glot_jax.files import read_json
from glot_jax.inference.hub_folder import upload_folder
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import CheckpointName

if TYPE_CHECKING:
    # Loaded when something is uploaded: the other exports need no Hub.
    from huggingface_hub import HfApi


@renamed_keywords(which="checkpoint")
def export_hub(
    folder_or_run: str | os.PathLike[str],
    name: str,
    *,
    private: bool = True,
    backbone: str | None = None,
    checkpoint: CheckpointName = "best",
    with_head: bool = False,
    api: HfApi | None = None,
) -> dict[str, Any]:
    """Upload an exported sentence-transformers folder, or a run that is exported first.

    Args:
        folder_or_run: what `export_sentence_transformers` wrote, or what it can read.
        name: of the repository, "owner/model".
        private: a repository that only its owner sees; one that exists and is public is then left
            alone.
        backbone: of a run, where the frozen model lies; see `export_sentence_transformers`.
        checkpoint: of a run, "best" or "last".
        with_head: of a run, whether its task's head is exported too; see there. A folder has it or
            not.
        api: a huggingface_hub.HfApi with its own endpoint or token; default: the logged-in user's.

    Returns:
        {repository, private, commit, url}.

    Raises:
        UsageError: neither a run nor an exported folder, a folder that names code of another
            place or lacks the task's head, a public repository, or whatever the Hub refuses.
    """
    source = Path(folder_or_run)
    # Only an exported folder has the head's code: anything else is taken for a run.
    if not (source / CODE_FILES[0]).is_file():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            export_sentence_transformers(
                source,
                folder,
                backbone=backbone,
                checkpoint=checkpoint,
                with_head=with_head,
            )
            return export_hub(folder, name, private=private, api=api)
    # Said before anything is uploaded: the head cannot be added to a folder.
    if with_head and "task_head" not in read_json(source / FACTS):
        raise UsageError(
            rule="--with-head is for a run, or for a folder that was exported with it",
            got=f"{source}, exported without",
            fix="Export the run again with --with-head.",
        )
    # A folder of an earlier version, or one that was edited since.
    require_own_code(source)
    return upload_folder(
        source,
        name,
        message="GLOT pooling head, exported for sentence-transformers",
        private=private,
        api=api,
    )

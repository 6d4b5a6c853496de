"""`glot extract`: the frozen model, run once."""

from __future__ import annotations

from glot_jax.cli.early_checks import require_task
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import require_extra


def extract(config: ExtractConfig) -> int:
    """Run a frozen language model once over a task's texts and store the token states."""
    require_task(config)
    require_extra("extract", "glot extract")
    from glot_jax.backbone_files.unseen_packages import leave_out

    leave_out()
    from glot_jax.extraction import dump, dump_share

    # A share is left unfinished on purpose: `glot store finish` joins the workers' shards.
    if config.worker is None:
        dump(config)
    else:
        dump_share(config)
    return 0

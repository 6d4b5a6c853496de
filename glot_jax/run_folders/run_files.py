"""Checks of a run folder that need neither jax nor a model.

They are what a command tests before it loads them.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from glot_jax import plugins
from glot_jax.config.location import Location
from glot_jax.errors import UsageError
from glot_jax.files import is_new_folder, read_json
from glot_jax.store.manifest import MANIFEST, read_manifest
from glot_jax.texts.tasks import TaskSpec

FORMAT = 3
"""Version of the run folder that is written.

Since 3 a checkpoint has two parts, the model and its training; before, one.
"""

READABLE = (2, 3)
"""Versions that can be read. A folder of another one is explained, not guessed at."""

CONFIG = "config.json"
TIMING = "timing.jsonl"
"""Its lock is the right to write the folder."""


def read_config(run: Path) -> dict[str, Any]:
    """The values of config.json: format, config, model, store, recipe, unused, perhaps plugins.

    Raises:
        UsageError: `run` is not a run folder, or one of another version, or one with parts of a
            plugin that was not loaded.
    """
    seeds = _seeds(run)
    if not (run / CONFIG).is_file() and seeds:
        raise UsageError(
            rule="one run must be named, not the folder of several seeds",
            got=f"{run}, which holds {', '.join(path.name for path in seeds)}",
            fix=f"Name one of them, such as {seeds[0]}.",
        )
    if not (run / CONFIG).is_file():
        raise UsageError(
            rule=f"expected a run folder, with {CONFIG} in it",
            got=run,
            fix="Give the --out of an earlier train.py.",
        )
    values = read_json(run / CONFIG)
    if values.get("format") not in READABLE:
        raise UsageError(
            rule=f"a run folder must be of format {' or '.join(map(str, READABLE))}",
            got=f"{run}: format {values.get('format')}",
            fix="Train again with this version.",
        )
    # Here, where every reader of a run passes: without its plugin a part's name means nothing.
    plugins.require_loaded(values.get("plugins", ()), run)
    return values


def read_task(run: Path) -> TaskSpec:
    """The task that a run was trained on.

    Raises:
        UsageError: as for `read_config`; or config.json was damaged.
    """
    values = read_config(run)
    try:
        return TaskSpec.from_json(values["model"]["task"])
    except (KeyError, TypeError) as error:
        raise UsageError(
            rule=f"{CONFIG} of a run folder must hold what train.py wrote",
            got=f"{run / CONFIG} without the task",
            fix="Restore the file, or train again.",
        ) from error


def _seeds(folder: Path) -> list[Path]:
    """The runs that `train.py --seeds` made in a folder, in the order of their seeds."""
    runs = [path.parent for path in folder.glob(f"seed-*/{CONFIG}")]
    numbered = [run for run in runs if run.name.removeprefix("seed-").isdecimal()]
    return sorted(numbered, key=lambda run: int(run.name.removeprefix("seed-")))


def require_store(store: Location, command: str) -> None:
    """Require that the store of an earlier run is still where it was.

    Raises:
        UsageError: It is not; the error says how `command` is told its new place.
    """
    # Also a link that leads nowhere: opening the store says what to fetch.
    if isinstance(store, Path) and os.path.lexists(store / MANIFEST):
        return
    try:
        # Of a folder it raises for certain, and knows best what is in the place of the store.
        read_manifest(store)
    except UsageError as error:
        fix = f"If the store was moved, give its new place with --store: {command} --store NEW."
        raise UsageError(error.rule, error.got, fix) from error


def _is_only_locked(out: Path) -> bool:
    """Whether a folder holds the file that is locked, and no line in it: nothing has begun yet."""
    if not out.is_dir() or [path.name for path in out.iterdir()] != [TIMING]:
        return False
    return (out / TIMING).stat().st_size == 0


def require_new_folder(out: Path) -> None:
    """Require that a run can be started in `out`: a new folder or an empty one.

    Raises:
        UsageError: `out` is a file, or holds something.
    """
    if is_new_folder(out) or _is_only_locked(out):
        return
    if (out / CONFIG).is_file():
        fix = f"Continue it with --resume {shlex.quote(str(out))}, or choose another --out."
    else:
        fix = "It is not a run: choose another --out."
    raise UsageError(rule="--out must be a new folder", got=f"{out}, which exists", fix=fix)

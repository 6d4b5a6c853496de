"""A trained head as a folder of two files, to be kept, sent or put on the Hub.

    DIR/config.json          the values of a run's config.json, and what an estimator adds
    DIR/model.safetensors    every array of the head, by its path

Nothing in them is run when they are read. The backbone stays where it is, and is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from glot_jax import plugins
from glot_jax.errors import UsageError, require_extra
from glot_jax.files import make_folders, read_json, whole_file, write_json
from glot_jax.inference.hub_folder import fetched_folder
from glot_jax.inference.plain_head import PlainHead
from glot_jax.run_folders.run_files import CONFIG, READABLE

WEIGHTS = "model.safetensors"
FILES = (CONFIG, WEIGHTS)
_OF_THIS_MACHINE = ("store", "out")
"""Settings of a run that are paths."""


def save_head(
    folder: str | os.PathLike[str], head: PlainHead, estimator: Mapping[str, Any]
) -> None:
    """Write a head into a folder; files of these two names are replaced, each as a whole.

    Args:
        folder: is made if it is not there.
        head: settings and arrays.
        estimator: JSON values of whoever loads it again.

    Raises:
        UsageError: the disk refused.
    """
    require_extra("extract", "save_pretrained")
    from safetensors.numpy import save_file

    target = Path(folder)
    make_folders(target)
    config = dict(head.config)
    # Paths of this machine are nobody else's business.
    config["config"] = {
        name: "unused" if name in _OF_THIS_MACHINE else value
        for name, value in config["config"].items()
    }
    with whole_file(target / WEIGHTS) as temporary:
        arrays = {name: np.array(array, order="C") for name, array in head.arrays.items()}
        save_file(arrays, temporary)
    # Last: a folder without it is not taken for a head.
    write_json(target / CONFIG, {**config, "estimator": dict(estimator)})


def read_head(
    location: str | os.PathLike[str],
    *,
    revision: str | None = None,
    plugin_modules: Iterable[str | ModuleType] = (),
) -> tuple[PlainHead, dict[str, Any]]:
    """Read what `save_head` wrote.

    Args:
        location: folder, or a repository on the Hub.
        revision: commit, tag or branch of a repository.
        plugin_modules: modules, or their names, with parts that the head has. Their code is run;
            a plugin that the folder names and you do not is never imported.

    Returns:
        The head, and the values of `estimator`.

    Raises:
        UsageError: no such folder or repository, damaged files, or a plugin that was not loaded.
    """
    require_extra("extract", "from_pretrained")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    plugins.load(plugin_modules)
    folder = Path(location)
    if not folder.is_dir():
        folder = fetched_folder(str(location), FILES, revision)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            rule=f"a saved head must have {CONFIG} and {WEIGHTS}",
            got=f"{location} without {', '.join(missing)}",
            fix="Give a folder that save_pretrained wrote; a run folder is loaded by load.",
        )
    values = dict(read_json(folder / CONFIG))
    if values.get("format") not in READABLE or not isinstance(values.get("estimator"), Mapping):
        raise UsageError(
            rule=f"{CONFIG} must be one that save_pretrained wrote",
            got=f"{location}: format {values.get('format')}",
            fix="Save it again with this version.",
        )
    estimator = dict(values.pop("estimator"))
    plugins.require_loaded(values.get("plugins", ()), folder)
    try:
        arrays = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UsageError(
            rule=f"{WEIGHTS} must be a whole safetensors file",
            got=f"{folder / WEIGHTS}: {error}",
            fix="Save or download it again.",
        ) from error
    return PlainHead(values, arrays), estimator

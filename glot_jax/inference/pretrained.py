"""A trained head as a folder of two files, to be kept, sent or put on the Hub.

    DIR/config.json          the values of a run's config.json, and what an estimator adds
    DIR/model.safetensors    every array of the head, by its path

Nothing in them is run when they are read. The backbone stays where it is, and is named.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from glot_jax import plugins
from glot_jax.errors import UsageError, require_extra
from glot_jax.files import make_folders, read_json, whole_file, write_json
from glot_jax.inference.hub_folder import fetched_folder
from glot_jax.inference.loading import TrainedHead
from glot_jax.model import SentenceModel
from glot_jax.run_folders.run_files import CONFIG, READABLE, read_config
from glot_jax.run_folders.run_folder import RunFolder

WEIGHTS = "model.safetensors"
FILES = (CONFIG, WEIGHTS)
_OF_THIS_MACHINE = ("store", "out")
"""Settings of a run that are paths."""


@dataclasses.dataclass(frozen=True)
class PlainHead:
    """What a pickle or a file of weights holds of a trained run."""

    config: Mapping[str, Any]
    """The values of config.json."""
    arrays: Mapping[str, np.ndarray]
    """Every array of the model, by its path in it: "pooler/layers/0/kernel"."""

    @classmethod
    def of_run(cls, head: TrainedHead) -> PlainHead:
        """The head of a run folder."""
        state = nnx.state(head.model)
        arrays = {}
        for path, variable in nnx.to_flat_state(state):
            arrays["/".join(map(str, path))] = np.asarray(variable[...])
        return cls(read_config(head.folder.path), arrays)

    def folder(self, path: Path = Path("unused")) -> RunFolder:
        """What the settings say, as if they lay in a run folder.

        Raises:
            UsageError: they were damaged, or are of another version.
        """
        return RunFolder.from_values(path, self.config)

    def model(self) -> SentenceModel:
        """Stem, pooler and head.

        Raises:
            UsageError: the arrays are not those of the settings.
        """
        model = self.folder().new_model()
        state = nnx.state(model)
        flat = dict(nnx.to_flat_state(state))
        names = {"/".join(map(str, path)): path for path in flat}
        if set(names) != set(self.arrays):
            different = sorted(set(names) ^ set(self.arrays))
            raise UsageError(
                rule="weights must be those of the head that their settings describe",
                got=f"{', '.join(different[:3])} on one side only",
                fix="Use settings and weights that were saved together.",
            )
        for name, path in names.items():
            variable = flat[path]
            array = self.arrays[name]
            if array.shape != variable[...].shape:
                raise UsageError(
                    rule="weights must have the shapes that their settings ask for",
                    got=f"{name}: {array.shape} instead of {variable[...].shape}",
                    fix="Use settings and weights that were saved together.",
                )
            variable[...] = jnp.asarray(array, variable[...].dtype)
        nnx.update(model, state)
        return model

    def trained(self) -> TrainedHead:
        """The head as `loading` gives it."""
        return TrainedHead(self.folder(), self.model(), "best")


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

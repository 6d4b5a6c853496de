"""A trained head as plain data: settings and arrays, without a folder or compiled code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from glot_jax.errors import UsageError
from glot_jax.inference.loading import TrainedHead
from glot_jax.model import SentenceModel
from glot_jax.run_folders.run_files import read_config
from glot_jax.run_folders.run_folder import RunFolder


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

"""The model of a run as exports compute it."""

from __future__ import annotations

import dataclasses

from flax import nnx

from glot_jax.model import SentenceModel
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder


def exact_model(folder: RunFolder, checkpoint: CheckpointName) -> SentenceModel:
    """Stem, pooler and head in float32 and on the dense backend, whatever they were trained in.

    Raises:
        UsageError: no such checkpoint.
    """
    config = folder.config
    trained = folder.load_model(checkpoint)
    model = SentenceModel(
        folder.model,
        graph=dataclasses.replace(config.graph, backend="dense"),
        pooler=dataclasses.replace(config.pooler, dtype="float32"),
        # Its head is the run's own: what a row is answered with is not rounded either.
        objective=config.objective,
        rngs=nnx.Rngs(0),
    )
    # Poolers of every dtype and backend have the same arrays.
    nnx.update(model, nnx.state(trained))
    return model

"""A trained run, loaded again: its head, and its scores on a store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from glot_jax.config.json import differences
from glot_jax.errors import require
from glot_jax.model import SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.training.loop import evaluate_split
from glot_jax.training.predictions import Predictions
from glot_jax.training.prepare import Run, prepare, require_store
from glot_jax.training.run_folder import CheckpointName, RunFolder
from glot_jax.training.run_log import Display
from glot_jax.training.steps import TrainState


@renamed_keywords(which="checkpoint")
def load_model(run: str | Path, checkpoint: CheckpointName = "best") -> SentenceModel:
    """The trained stem, pooler and head of a run folder; needs the folder alone, no store.

    Raises:
        UsageError: no run folder, or no such checkpoint in it.
    """
    return RunFolder.open(run).load_model(checkpoint)


@renamed_keywords(which="checkpoint")
def evaluate_run(
    run: Path,
    *,
    store: Path | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
) -> dict[str, Any]:
    """Metrics of a run's head, {split: {metric: value}}, on its own store or another one of the
    same task.

    Raises:
        UsageError: no run folder, no checkpoint, or a store whose states or task the head does not
            fit.
    """
    prepared, state = open_run(run, store=store, checkpoint=checkpoint, quiet=quiet)
    return {
        split: evaluate_split(prepared, state, split)[0]
        for split in prepared.feeds
        if split != "train"
    }


@renamed_keywords(which="checkpoint")
def predict_run(
    run: Path,
    *,
    store: Path | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
    residents: dict[tuple, Any] | None = None,
) -> dict[str, Predictions]:
    """What a run's head predicts for every row of every evaluation split; arguments and errors are
    evaluate_run's.
    """
    prepared, state = open_run(
        run, store=store, checkpoint=checkpoint, quiet=quiet, residents=residents
    )
    return {
        split: evaluate_split(prepared, state, split)[1]
        for split in prepared.feeds
        if split != "train"
    }


@renamed_keywords(which="checkpoint")
def open_run(
    run: Path,
    *,
    store: Path | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
    residents: dict[tuple, Any] | None = None,
) -> tuple[Run, TrainState]:
    """A trained run made ready on its own store or another one, and its best or last state."""
    folder = RunFolder.open(run)
    folder.require_head()
    config = folder.config
    if store is not None:
        # The layers of the head, not "all" or "the last" of whatever this store holds.
        layers = folder.model.layers
        if folder.model.mixed:
            config = dataclasses.replace(config, store=store, layer=None, mix_layers=layers)
        else:
            config = dataclasses.replace(config, store=store, layer=layers[0], mix_layers=None)
    else:
        require_store(config.store, f"glot evaluate {run}")
    prepared = prepare(
        config, Display(quiet=quiet), {} if residents is None else residents, trained=True
    )
    changed = differences(folder.model.to_json(), prepared.model_spec.to_json())
    changed += folder.fits(prepared.recipe)
    if store is None and folder.store != prepared.content:
        changed.append(
            f"store: {folder.store!r} -> {prepared.content!r}, made anew since; give it as"
            " --store to use it all the same"
        )
    require(
        not changed,
        "the store fits the trained head",
        "; ".join(changed),
        "Use the store the head was trained on, or one like it.",
    )
    # The state of the optimizer stays that of step 0: nothing here trains.
    return prepared, {**prepared.state, **folder.load_arrays(prepared.state, checkpoint)}

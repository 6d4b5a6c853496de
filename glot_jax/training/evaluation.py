"""A trained run, loaded again: its head, and its scores on a store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.batches.split_rows import Splits
from glot_jax.config.json import differences
from glot_jax.config.location import Location
from glot_jax.config.train import TrainConfig
from glot_jax.dispatch.memory import told_of_memory
from glot_jax.errors import UsageError
from glot_jax.model import SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.objectives import objective_for
from glot_jax.objectives.metrics import Predictions
from glot_jax.run_folders.run_files import require_store
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder
from glot_jax.run_folders.run_log import Display
from glot_jax.store.reader import HiddenStore
from glot_jax.training.evaluate import evaluate_split
from glot_jax.training.forward import run_over
from glot_jax.training.prepare import (
    Run,
    build,
    build_steps,
    check_names,
    feed_kind,
    open_store,
    optimizer_of,
    spec_of,
)
from glot_jax.training.step_functions import TrainState
from glot_jax.training.workspace import Workspace

_MEMORY = (
    "Give the device back what other programs hold of it, judge where there is more (another"
    " CUDA_VISIBLE_DEVICES, or JAX_PLATFORMS=cpu), or train with a lower --eval-batch-size or"
    " --cache host, which a run keeps."
)
"""What to do where judging does not fit the device: its sizes are those of the training."""


@renamed_keywords(which="checkpoint")
def load_model(run: str | Path, checkpoint: CheckpointName = "best") -> SentenceModel:
    """The trained stem, pooler and head of a run folder; needs the folder alone, no store.

    Raises:
        UsageError: no run folder, or no such checkpoint in it.
    """
    return RunFolder.open(run).load_model(checkpoint)


@renamed_keywords(which="checkpoint")
@told_of_memory(_MEMORY)
def evaluate_run(
    run: Path,
    *,
    store: Location | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
) -> dict[str, Any]:
    """Metrics of a run's head on a store of its task, {split: {metric: value}}.

    Args:
        run: run folder.
        store: default: the store that it was trained on.
        checkpoint: "best" or "last".
        quiet: print nothing.

    Raises:
        UsageError: no run folder, no checkpoint, or a store whose states or task the head does not
            fit.
    """
    prepared, state = open_run(
        run,
        store=store,
        checkpoint=checkpoint,
        quiet=quiet,
    )
    scores = {}
    for split in prepared.evaluation_splits:
        scores[split], _ = evaluate_split(prepared, state, split)
    return scores


@dataclasses.dataclass(frozen=True)
class JudgedSplit:
    """What a run's head makes of one split."""

    scores: dict[str, float]
    """The task's metrics, and the loss."""
    predictions: Predictions
    outputs: np.ndarray
    """float32 [rows, ...], of the head, in the order of `predictions`."""
    temperature: float | None = None
    """Of a run that was calibrated."""


@told_of_memory(_MEMORY)
def judge_run(
    run: Path,
    *,
    store: Location | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
) -> dict[str, JudgedSplit]:
    """Scores, predictions and outputs of every evaluation split.

    Arguments and errors are those of `open_run`.
    """
    prepared, state = open_run(run, store=store, checkpoint=checkpoint, quiet=quiet)
    temperature = RunFolder.open(run).temperature
    judged = {}
    for split in prepared.evaluation_splits:
        outputs = run_over(prepared, state, split, prepared.objective.judged_by)
        scores, predictions = prepared.objective.judge(prepared.feeds[split], outputs)
        order = np.argsort(outputs.rows)
        judged[split] = JudgedSplit(scores, predictions, outputs.values[order], temperature)
    return judged


@renamed_keywords(which="checkpoint", residents="workspace")
@told_of_memory(_MEMORY)
def predict_run(
    run: Path,
    *,
    store: Location | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
    workspace: Workspace | None = None,
) -> dict[str, Predictions]:
    """Predictions of a run's head for every row of every evaluation split.

    Arguments and errors are those of `open_run`.
    """
    prepared, state = open_run(
        run, store=store, checkpoint=checkpoint, quiet=quiet, workspace=workspace
    )
    predictions = {}
    for split in prepared.evaluation_splits:
        _, predictions[split] = evaluate_split(prepared, state, split)
    return predictions


@renamed_keywords(which="checkpoint", residents="workspace")
@told_of_memory(_MEMORY)
def open_run(
    run: Path,
    *,
    store: Location | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
    workspace: Workspace | None = None,
) -> tuple[Run, TrainState]:
    """Make a trained run ready on its own store or another one, with its best or last state.

    Args:
        run: run folder.
        store: default: the store that it was trained on.
        checkpoint: "best" or "last".
        quiet: print nothing.
        workspace: as in `train`.

    Raises:
        UsageError: no run folder, no checkpoint, an imported run, or a store that the head does not
            fit.
    """
    folder = RunFolder.open(run)
    folder.require_head()
    config = folder.config
    if store is not None:
        # The layers of the head, not "all" or "the last" of whatever this store holds.
        layers = folder.model.layers
        config = dataclasses.replace(config, store=store)
        # Both at once: a config refuses to name one layer and a mix of several.
        if folder.model.mixed:
            config = dataclasses.replace(config, layer=None, mix_layers=layers)
        else:
            config = dataclasses.replace(config, layer=layers[0], mix_layers=None)
    else:
        # Told before anything is built: stores are moved more often than runs.
        require_store(config.store, f"glot evaluate {run}")
    opened = open_store(config)
    # Another store may have other norms; the head sees the tokens that it was trained on.
    spec = spec_of(opened, config, folder.model.tokens)
    changed = differences(folder.model.to_json(), spec.to_json())
    changed += folder.fits(opened.recipe)
    # Another store is what --store asks for; at the run's own path it is a surprise.
    if store is None and folder.store != opened.content:
        changed.append(
            f"store: {folder.store!r} -> {opened.content!r}, made anew since; give it as"
            " --store to use it all the same"
        )
    if changed:
        raise UsageError(
            rule="the store must fit the trained head",
            got="; ".join(changed),
            fix="Use the store the head was trained on, or one like it.",
        )
    check_names(config.graph, config.pooler)
    # With what its checkpoint holds from the first on: edges are counted by the statistics and the
    # weights of layers that they were linked by.
    model = folder.load_model(checkpoint)
    display = Display(quiet=quiet)
    prepared = _prepare(opened, config, model, display, Workspace.shared(workspace))
    # The state of the optimizer stays that of step 0: nothing here trains.
    return prepared, prepared.mesh.everywhere(prepared.state)


def _prepare(
    store: HiddenStore,
    config: TrainConfig,
    model: SentenceModel,
    display: Display,
    workspace: Workspace,
) -> Run:
    """Feeds and compiled steps of a trained model, on any store of its task.

    Nothing is measured on the store that its checkpoint brings: the statistics of the states.
    """
    spec = model.spec
    objective = objective_for(spec.task, config.objective)
    # Divided as in training, a holdout set aside: else the head would be judged on rows it learned.
    if "train" in store:
        splits = Splits.divide(store, config, feed_kind(objective))
    else:
        splits = Splits.whole(store)
    notices: list[str] = []
    feeds = build(store, model, config, splits, workspace, notices)
    # Never used, but the steps of `Run` are made with one.
    make_optimizer = optimizer_of(config, feeds)
    steps, state = build_steps(model, config, feeds, make_optimizer, workspace, notices)
    for notice in notices:
        display.line(notice)
    return Run(
        config=config,
        model_spec=spec,
        objective=objective,
        content=store.content,
        recipe=store.recipe,
        feeds=feeds,
        steps=steps,
        state=state,
    )

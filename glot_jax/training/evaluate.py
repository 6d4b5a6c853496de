"""Scores and predictions of the splits of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping

from glot_jax.objectives.metrics import Predictions
from glot_jax.training.forward import run_over
from glot_jax.training.prepare import Run, TrainingRun
from glot_jax.training.session import Session
from glot_jax.training.step_functions import TrainState

Scores = dict[str, float]
"""Metrics and the loss of a split, by name."""


def evaluate_split(
    run: Run,
    state: TrainState,
    split: str,
) -> tuple[Scores, Predictions]:
    """The task's metrics and the mean loss over one split; and what was predicted.

    Raises:
        UsageError: a value that is not finite, or a sparse batch that overflowed.
    """
    outputs = run_over(run, state, split, run.objective.judged_by)
    return run.objective.judge(run.feeds[split], outputs)


def evaluate_all(
    session: Session, state: TrainState, epoch: int
) -> tuple[dict[str, Scores], dict[str, Predictions]]:
    """Scores, which go to metrics.jsonl, and predictions of every evaluation split.

    Args:
        session: of the run that is trained.
        state: after the epoch.
        epoch: from 1.
    """
    run = session.run

    def readings() -> dict[str, float]:
        # Compilation is not evaluation: its seconds are taken off both ends.
        return {"evaluate_seconds": time.perf_counter() - run.compile_seconds}

    session.clock.start(readings())
    step = int(state["step"])
    scores = {}
    predictions = {}
    for split in run.evaluation_splits:
        scores[split], predictions[split] = evaluate_split(run, state, split)
        session.log.metrics(
            step=step,
            epoch=epoch,
            split=split,
            **scores[split],
        )
    session.clock.lap(readings())
    return scores, predictions


def selection_of(
    run: TrainingRun,
    scores: Mapping[str, Scores],
    epoch: int,
) -> float:
    """What an epoch is selected by, higher is better: the latest one wins where none is."""
    if run.selected_on == "last":
        # The number of the epoch as its score: the best checkpoint is always the newest one.
        return float(epoch)
    return scores[run.selecting_split][run.metric]


def best_predictions(session: Session) -> dict[str, Predictions]:
    """Predictions of the best checkpoint for every evaluation split."""
    run = session.run
    best = session.checkpoints.best_step or run.total_steps
    if best in session.predictions:
        return session.predictions[best]
    # Another process saw that epoch: they are computed again.
    state = session.load(best)
    predictions = {}
    for split in run.evaluation_splits:
        _, predictions[split] = evaluate_split(run, state, split)
    return predictions

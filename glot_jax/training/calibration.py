"""`--calibrate`: the temperature of a trained head's probabilities, fitted on its holdout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from glot_jax.objectives.probabilities import nll
from glot_jax.objectives.temperature import BOUNDS, Calibrated
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.training.forward import run_over
from glot_jax.training.prepare import TrainingRun
from glot_jax.training.session import Session


@dataclasses.dataclass(frozen=True)
class FittedTemperature:
    """What was fitted, on what, and what it changed there."""

    temperature: float
    """What logits are divided by."""
    rows: int
    """Of the holdout."""
    nll_before: float
    """Mean negative log-likelihood of the holdout's labels, without a temperature."""
    nll_after: float

    def notice(self) -> str:
        """A line for people."""
        line = (
            f"temperature {self.temperature:g}, fitted on {self.rows:,} rows of the holdout:"
            f" negative log-likelihood {self.nll_before:.4f} -> {self.nll_after:.4f}"
        )
        if self.temperature in BOUNDS:
            line += "; it is at its bound, which a larger holdout may change"
        return f"{line} (--calibrate)"


def calibrate(session: Session) -> FittedTemperature | None:
    """Fit the temperature of the best checkpoint and write it into config.json.

    Returns:
        None without `--calibrate`.
    """
    run = session.run
    if not run.config.objective.calibrate:
        return None
    # `prepare` has looked; this is for the type checker.
    assert isinstance(run.objective, Calibrated)
    # Of the head that will answer: the temperature of another epoch is another.
    best = session.checkpoints.best_step or run.total_steps
    state = session.load(best)
    # That of the holdout, as `prepare` required: the training rows would flatter.
    split = run.selecting_split
    outputs = run_over(run, state, split, run.objective.judged_by)
    labels = run.feeds[split].labels[outputs.rows]
    fitted = _fitted(run, run.objective, outputs.values, labels)
    if run.mesh.processes.first:
        folder = RunFolder.open(run.config.out)
        # With the settings, because whoever loads the head reads these: a saved head has them too.
        dataclasses.replace(folder, temperature=fitted.temperature).write()
    session.display.line(fitted.notice())
    return fitted


def forget_temperature(out: Path) -> None:
    """Take the temperature of an earlier end out of config.json.

    What is trained further may have another best head, whose temperature is fitted when it ends.
    """
    folder = RunFolder.open(out)
    # A run without one keeps its bytes, and the time of its file.
    if folder.temperature is not None:
        dataclasses.replace(folder, temperature=None).write()


def _fitted(
    run: TrainingRun, objective: Calibrated, logits: np.ndarray, labels: np.ndarray
) -> FittedTemperature:
    temperature = objective.temperature(logits, labels)
    return FittedTemperature(
        temperature,
        len(labels),
        nll_before=nll(logits, labels, run.task),
        nll_after=nll(logits, labels, run.task, temperature),
    )

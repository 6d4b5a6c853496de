"""What one process holds while it trains a run."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

from glot_jax.config.json import to_json
from glot_jax.config.train import TrainConfig
from glot_jax.dispatch.pace import MOST
from glot_jax.objectives.metrics import Predictions
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_log import Clock, Display, RunLog
from glot_jax.tracking import TrackedRun, Trackers
from glot_jax.training.forward import look
from glot_jax.training.prepare import TrainingRun
from glot_jax.training.step_functions import Numbers, TrainState
from glot_jax.training.stopping import StopSignals


@dataclasses.dataclass
class Session:
    """A run that is being trained: its log, clock, checkpoints, and what is not written yet."""

    run: TrainingRun
    checkpoints: Checkpoints
    log: RunLog
    clock: Clock
    display: Display
    stop: StopSignals
    losses: list[float]
    """Losses of the steps since the last line of metrics.jsonl; they travel with a checkpoint."""
    trackers: Trackers
    """Those that follow the run."""
    predictions: dict[int, dict[str, Predictions]] = dataclasses.field(default_factory=dict)
    """Predictions of the best epoch that this process has seen, by its step and split."""
    saved_at: float = dataclasses.field(default_factory=time.perf_counter)

    def save(
        self,
        state: TrainState,
        selection: float | None = None,
    ) -> None:
        """Save the state with what a run that continues from it needs.

        Args:
            state: after a step.
            selection: score of the epoch that ends with it; None within an epoch.
        """
        # A checkpoint must never be ahead of the lines that led to it.
        self.log.sync()
        notes = {"losses": self.losses, "seconds": self.clock.epoch}
        self.checkpoints.save(saved_part(state), selection, notes)
        self.saved_at = time.perf_counter()

    def load(self, step: int) -> TrainState:
        """The state that was saved at a step.

        Raises:
            UsageError: it is not what was saved.
        """
        return loaded(self.checkpoints.load(step, saved_part(self.run.state)), self.run)

    def track_evaluation(
        self, state: TrainState, epoch: int, scores: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Tell the trackers what an epoch has ended with, by split, and what the readout takes."""
        step = int(state["step"])
        values: dict[str, float] = {"epoch": epoch}
        for split, by_metric in scores.items():
            values |= {f"{split}/{name}": value for name, value in by_metric.items()}
        self.trackers.scalars(step, values)
        # Costs a program of its own: called where somebody listens.
        self.trackers.histograms(step, functools.partial(look, self.run, state))

    @property
    def most_steps(self) -> int:
        """Steps of one dispatch, at the end of which the run can be saved."""
        seconds = 60 * self.run.config.checkpoint_minutes
        # Whoever asks for saves so often means every step.
        return 1 if 0 < seconds < 1 else MOST

    def save_is_due(self) -> bool:
        """Whether `--checkpoint-minutes` have passed since the last save."""
        minutes = self.run.config.checkpoint_minutes
        # 0 turns saves within an epoch off.
        if minutes == 0:
            return False
        passed = time.perf_counter() - self.saved_at
        return passed >= 60 * minutes

    def stop_after(self, step: int) -> None:
        """End here, with everything on disk.

        Raises:
            KeyboardInterrupt: SIGINT was received.
            SystemExit: SIGTERM was received.
        """
        # The message promises that it is saved; saving goes on in the background until here.
        self.checkpoints.wait()
        assert self.stop.received is not None
        # Whoever stopped it may not know how it was started.
        message = (
            f"{self.stop.received.name}: stopped after step {step} of {self.run.total_steps}, which"
            f" is saved; continue with train.py --resume {self.run.config.out}"
        )
        self.display.line(message)
        raise self.stop.ending(message)


def saved_part(state: TrainState) -> TrainState:
    """What a checkpoint holds of a state: all but the numbers, which stand in config.json."""
    # Checkpoints of earlier versions have none either.
    return {name: part for name, part in state.items() if name != "numbers"}


def loaded(saved: TrainState, run: TrainingRun) -> TrainState:
    """The state of a run, of what a checkpoint holds."""
    config = run.config
    # Made anew: those of the run's first state are in memory that its steps have taken over.
    return {**saved, "numbers": Numbers.from_config(config.optimizer, config.graph, config.pooler)}


def tracked_run(config: TrainConfig, done: int) -> TrackedRun:
    """What trackers are told of a run: numbers and names, and no path.

    Args:
        config: of the run.
        done: its steps so far.
    """
    settings: dict[str, Any] = {}
    for name, value in to_json(config).items():
        # Names of settings are unique across their groups.
        settings |= value if isinstance(value, dict) else {name: value}
    # What is neither a number nor a name, such as a plugin's options, may hold anything.
    told = {}
    for name, value in settings.items():
        if name not in ("store", "out") and isinstance(value, (str, int, float, bool, type(None))):
            told[name] = value
    return TrackedRun(config.out / "tracking", config.out.name, told, done)


def final_scores(run: TrainingRun, summary: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a summary by names such as `best/validation/accuracy`."""
    # Names with slashes: the tools make folds of them.
    scores = {}
    for split in run.evaluation_splits:
        for checkpoint in ("best", "last"):
            for name, value in summary[split][checkpoint].items():
                scores[f"{checkpoint}/{split}/{name}"] = value
    return scores

"""What one process needs at hand while it trains a run."""

from __future__ import annotations

import dataclasses
import time

from glot_jax.training.checkpoint import Checkpoints
from glot_jax.training.predictions import Predictions
from glot_jax.training.prepare import Run
from glot_jax.training.run_log import Clock, Display, RunLog
from glot_jax.training.steps import TrainState
from glot_jax.training.stopping import StopSignals


@dataclasses.dataclass
class Session:
    run: Run
    checkpoints: Checkpoints
    log: RunLog
    clock: Clock
    display: Display
    stop: StopSignals
    losses: list[float]
    """Of the steps since the last line of metrics.jsonl; they travel with a checkpoint."""
    predictions: dict[int, dict[str, Predictions]] = dataclasses.field(default_factory=dict)
    """Of the best epoch that this process has seen, by its step."""
    saved_at: float = dataclasses.field(default_factory=time.perf_counter)

    def save(self, state: TrainState, selection: float | None = None) -> None:
        """Save the state with what a run that continues from it needs; `Checkpoints.save` says what
        it raises.
        """
        self.log.sync()
        self.checkpoints.save(
            state, selection, {"losses": self.losses, "seconds": self.clock.epoch}
        )
        self.saved_at = time.perf_counter()

    def save_is_due(self) -> bool:
        minutes = self.run.config.checkpoint_minutes
        return minutes > 0 and time.perf_counter() - self.saved_at >= 60 * minutes

    def stop_after(self, step: int) -> None:
        """End here, with everything on disk.

        Raises what the signal that was received stands for.
        """
        self.checkpoints.wait()
        assert self.stop.received is not None
        message = (
            f"{self.stop.received.name}: stopped after step {step} of {self.run.total_steps}, which"
            f" is saved; continue with train.py --resume {self.run.config.out}"
        )
        self.display.line(message)
        raise self.stop.ending(message)

"""The log of a process that writes none, because another one of the run does."""

from __future__ import annotations

from pathlib import Path

from glot_jax.mesh.processes import Processes
from glot_jax.run_folders.run_files import TIMING
from glot_jax.run_folders.run_log import RunLog


def open_log(run: Path, resumed_step: int, processes: Processes) -> RunLog:
    """The log of a run, which process 0 alone writes."""
    if processes.first:
        return RunLog(run, resumed_step)
    return SilentLog(run)


class SilentLog(RunLog):
    """Takes the lines of a run and keeps none."""

    def __init__(self, run: Path):
        self.metrics_path = run / "metrics.jsonl"
        self.timing_path = run / TIMING
        self.history = []
        self.epochs_timed = {}

    def metrics(self, *, step: int, epoch: int, split: str, **values: float) -> None:
        """Nothing is written."""

    def timing(self, **values: float) -> None:
        """Nothing is written."""

    def sync(self) -> None:
        """There is nothing to put on disk."""

    def close(self) -> None:
        """There is nothing to close."""

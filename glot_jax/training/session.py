"""What one process holds while it trains a run."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from glot_jax.config.json import to_json
from glot_jax.config.location import StoreUrl
from glot_jax.config.train import TrainConfig
from glot_jax.dispatch.pace import MOST, Pace
from glot_jax.errors import UsageError
from glot_jax.files import read_json
from glot_jax.mesh.device_mesh import Mesh
from glot_jax.objectives.metrics import Predictions
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.predictions import FILE as PREDICTIONS
from glot_jax.run_folders.run_log import Clock, Display, RunLog
from glot_jax.tracking import TrackedRun, Trackers
from glot_jax.training.edge_budgets import check_edges
from glot_jax.training.forward import look
from glot_jax.training.prepare import TrainingRun
from glot_jax.training.step_functions import Numbers, TrainState
from glot_jax.training.stopping import StopSignals

_WORTH_A_SAVE = 1.0
"""Seconds of training that are saved whatever they led to; a save takes some .06."""


@dataclasses.dataclass(frozen=True)
class Decided:
    """What one process decides for all."""

    steps: int
    """Of a dispatch."""
    save: bool
    """Whether a save is due."""


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
    saved_at: float = dataclasses.field(init=False)
    saved_step: int | None = None
    """Of the last save of this process."""
    decided: Decided = dataclasses.field(default_factory=lambda: Decided(1, save=False))
    """What process 0 of several has decided last."""

    def __post_init__(self) -> None:
        self.saved_at = time.perf_counter()

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
        notes |= layout_of(self.run.mesh)
        self.checkpoints.save(saved_part(state), selection, notes)
        self.saved_at = time.perf_counter()
        self.saved_step = int(state["step"])
        self.decided = dataclasses.replace(self.decided, save=False)

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
        # Costs a program of its own: called where somebody listens. Of several processes only the
        # first does, and no program runs in one alone.
        if not self.run.mesh.processes.several:
            self.trackers.histograms(step, functools.partial(look, self.run, state))

    @property
    def most_steps(self) -> int:
        """Steps of one dispatch, at the end of which the run can be saved."""
        seconds = 60 * self.run.config.checkpoint_minutes
        # Whoever asks for saves so often means every step.
        return 1 if 0 < seconds < 1 else MOST

    def steps_at_once(self, pace: Pace) -> int:
        """Steps that the next dispatch may have, of which there is one number for all processes."""
        if self.run.mesh.processes.several:
            return self.decided.steps
        return pace.steps

    def meet(self, pace: Pace) -> None:
        """Hear, at a line of the log, what process 0 decides and what the others were told."""
        processes = self.run.mesh.processes
        if not processes.several:
            return
        own = {
            "steps": pace.steps,
            "save": self._time_has_passed(),
            "stop": self.stop.noted,
        }
        answers = processes.gather(own)
        # Clocks and speeds differ: one process has the say.
        first = answers[0]
        self.decided = Decided(first["steps"], save=first["save"])
        noted = [answer["stop"] for answer in answers]
        self.stop.hear(noted)

    def save_is_due(self) -> bool:
        """Whether `--checkpoint-minutes` have passed since the last save.

        Of several processes it is process 0's clock, and looked at where they meet.
        """
        if self.run.mesh.processes.several:
            return self.decided.save
        return self._time_has_passed()

    def _time_has_passed(self) -> bool:
        minutes = self.run.config.checkpoint_minutes
        # 0 turns saves within an epoch off.
        if minutes == 0:
            return False
        passed = time.perf_counter() - self.saved_at
        return passed >= 60 * minutes

    def save_epoch(self, state: TrainState, selection: float, *, always: bool) -> None:
        """Save the end of an epoch that is worth a checkpoint, unless that was done.

        That of the best epoch so far is. Others take less time than a save where rows are few: what
        is not saved within a second of the last save is a second's work.

        Args:
            state: after its last step.
            selection: its score.
            always: whatever it is worth.
        """
        if int(state["step"]) == self.saved_step:
            return
        if always or self._epoch_is_worth_a_save(selection):
            self.save(state, selection)

    def _epoch_is_worth_a_save(self, selection: float) -> bool:
        run = self.run
        # Several processes would have to agree on a clock.
        if run.mesh.processes.several or run.config.checkpoint_minutes == 0:
            return True
        if time.perf_counter() - self.saved_at >= _WORTH_A_SAVE:
            return True
        # Where nothing is selected every epoch is the best so far, and the last one alone counts.
        return run.selected_on != "last" and self.checkpoints.is_better(selection)

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


class Unread(NamedTuple):
    """Logs of a dispatch that are still on the device."""

    steps: int
    logs: dict[str, Any]


def read_logs(
    run: TrainingRun,
    state: TrainState,
    unread: list[Unread],
    done: int,
) -> list[float]:
    """Losses of the steps, `done` the last of them, that nobody has read yet.

    Raises:
        UsageError: numbers would be wrong: a sparse batch overflowed, or a loss is not finite.
    """
    # One transfer for all of them: each by itself would stop the device.
    read, bad_step = jax.device_get(
        ([dispatch.logs for dispatch in unread], state["first_bad_step"])
    )
    bad_step = int(bad_step)
    logs = []
    for dispatch, entry in zip(unread, read, strict=True):
        # A dispatch of one batch has numbers, a block arrays that may be longer than it is.
        logs.append({name: np.atleast_1d(entry[name])[: dispatch.steps] for name in entry})
    feed = run.feeds["train"]
    losses = np.concatenate([entry["loss"] for entry in logs])
    dropped = np.concatenate([entry["dropped_edges"] for entry in logs])
    steps = range(done - len(losses), done)
    budgets = run.steps.edge_budgets
    check_edges(feed, budgets, dropped.tolist(), steps, "train", run.config.out)
    if bad_step >= 0:
        planned = feed.plan.batch(bad_step).rows
        # Numbers as in the store, which the user can look up; those of the plan are ours.
        stored = feed.stored_rows(planned[planned >= 0])
        # Python's own: NumPy's would be printed with their type.
        rows = [int(row) for row in stored]
        raise UsageError(
            rule="loss and gradient must be finite at every step",
            got=f"one that is not at step {bad_step}, training rows {rows}",
            fix="Lower --lr or look at these rows; the last checkpoint is kept.",
        )
    return losses.tolist()


def is_finished(run: TrainingRun, checkpoints: Checkpoints) -> bool:
    """Whether the last step is saved and the summary speaks of the best checkpoint there is."""
    # Process 0 wrote the files, and sees them first.
    best = checkpoints.best_step
    finished = checkpoints.latest_step == run.total_steps and _has_summary(run, best)
    return run.mesh.processes.from_first(finished)


def _has_summary(run: TrainingRun, best_step: int | None) -> bool:
    # It does not where the best one was lost since.
    path = run.config.out / "summary.json"
    if not path.exists():
        return False
    # Older versions wrote no predictions: a run of theirs goes on to compute them.
    if not path.with_name(PREDICTIONS).exists():
        return False
    # An epoch in the summary, a step among the checkpoints.
    summary = read_json(path)
    best_epoch = summary[run.reported_split]["best"]["epoch"]
    return best_epoch * run.steps_per_epoch == best_step


def report_a_lost_best(session: Session) -> None:
    """Say it if the best checkpoint of the lines so far is no longer there."""
    run = session.run
    selecting = run.selecting_split
    lines = [line for line in session.log.history if line["split"] == selecting]
    if not lines:
        return
    # `max` takes the first of equals, as `Checkpoints.best_step` takes the earliest.
    best = max(lines, key=lambda line: line[run.metric])
    if best["step"] not in session.checkpoints.steps:
        session.display.line(
            f"the checkpoint of the best epoch so far, {best['epoch']}, is lost: the best is chosen"
            " among those that are left and the epochs to come"
        )


def saved_part(state: TrainState) -> TrainState:
    """What a checkpoint holds of a state: all but the numbers, which stand in config.json."""
    # Checkpoints of earlier versions have none either.
    return {name: part for name, part in state.items() if name != "numbers"}


def loaded(saved: TrainState, run: TrainingRun) -> TrainState:
    """The state of a run, of what a checkpoint holds."""
    config = run.config
    # Made anew: those of the run's first state are in memory that its steps have taken over.
    numbers = Numbers.from_config(config.optimizer, config.graph, config.pooler)
    return {**saved, "numbers": run.mesh.everywhere(numbers)}


def layout_of(mesh: Mesh) -> dict[str, int]:
    """What a checkpoint says of the devices it was trained on; nothing of one."""
    # Runs of one device keep the bytes of versions that know of no other.
    if not mesh.several:
        return {}
    return {"devices": mesh.count, "processes": mesh.processes.count}


def other_layout(notes: Mapping[str, Any], mesh: Mesh) -> list[str]:
    """A line about a run that goes on with another number of devices or processes."""
    # A checkpoint of one device says nothing.
    devices = notes.get("devices", 1)
    processes = notes.get("processes", 1)
    here = mesh.processes.count
    if (devices, processes) == (mesh.count, here):
        return []
    return [
        f"saved with {devices} devices of {processes} processes, goes on with {mesh.count} of"
        f" {here}: from here on its numbers are those of the other within rounding"
    ]


def tracked_run(config: TrainConfig, done: int) -> TrackedRun:
    """What trackers are told of a run: numbers and names, and no path.

    Args:
        config: of the run.
        done: its steps so far.
    """
    settings: dict[str, Any] = {}
    for name, value in to_json(config).items():
        # Of the settings, because JSON has texts in the place of paths. Those of this machine, and
        # the URL of a store, are nobody's business.
        if isinstance(getattr(config, name), (Path, StoreUrl)):
            continue
        # Names of settings are unique across their groups.
        settings |= value if isinstance(value, dict) else {name: value}
    # What is neither a number nor a name, such as a plugin's options, may hold anything.
    told = {}
    for name, value in settings.items():
        if isinstance(value, (str, int, float, bool, type(None))):
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

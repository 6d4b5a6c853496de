"""Runs that are trained step by step together, in one program."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glot_jax.batches.placement import DeviceStates
from glot_jax.batches.planned_batches import run_lengths
from glot_jax.config.train import TrainConfig
from glot_jax.dispatch.memory import told_of_memory
from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.tracking import Trackers
from glot_jax.training.advance import Blocks, Trained, Turn, padded_of_epoch, shapes_of_epoch
from glot_jax.training.loop import MEMORY, Turns, checked, open_alone, train, turns_of
from glot_jax.training.prepare import TrainingRun
from glot_jax.training.steps import Block, Steps
from glot_jax.training.stopping import StopSignals
from glot_jax.training.workspace import Workspace

Joint = Literal["auto", "on", "off"]
"""Whether runs are trained in one program; see `train_runs`."""

_MOST_BYTES = 16 << 30
"""Of the arrays of a joint step, by a rough count: whatever device it is, so that which runs are
trained together follows from the settings alone."""


class TrainOptions(TypedDict, total=False):
    """Keywords of `train` that all runs share; see there."""

    unused: Mapping[str, Any] | None
    given: Collection[str] | None
    quiet: bool | str
    after_epoch: Callable[[int, float], None] | None
    track: Sequence[str]


@told_of_memory(f"Train them one after another (--joint off). {MEMORY}")
def train_runs(
    configs: Sequence[TrainConfig],
    *,
    workspace: Workspace | None = None,
    joint: Joint = "auto",
    **options: Unpack[TrainOptions],
) -> list[dict[str, Any]]:
    """Train several runs; those that differ by numbers alone may be trained in one program.

    Such numbers are the rate, the decay, tau, dropout and the seed; where something else differs,
    there is a program for each kind. Called again after a kill or a signal it keeps finished runs
    and resumes the others.

    Args:
        configs: a folder each.
        workspace: see `train`; default: one for these runs.
        joint: whether they take their steps together; auto: not on a CPU, where that is no faster.
            Numbers of a run differ from those that it has alone by rounding. They depend neither on
            the other runs' numbers nor on which are finished already, but on how many there are.
        options: further keywords of `train`.

    Returns:
        Their summaries, in the order of `configs`.

    Raises:
        UsageError: as `train`; or joint is on and some can only be trained apart.
    """
    workspace = Workspace.shared(workspace)
    mesh = workspace.mesh
    display = Display(quiet=options.get("quiet", False) if mesh.processes.first else True)
    # Before anything is prepared: processes would meet in another order.
    apart = joint == "auto" and mesh.several
    if joint == "off" or len(configs) < 2 or apart:
        return _in_turn(configs, workspace, options)
    # Measured (benchmarks/runs_together.py): a GPU has time for more than one small head, the
    # cores of a CPU are busy with one.
    if joint == "auto" and jax.default_backend() == "cpu":
        display.line(f"{len(configs)} runs, one after another: no slower on a CPU (--joint on)")
        return _in_turn(configs, workspace, options)
    runs = []
    # All of them before the first step: what one of them refuses is told at once.
    for config in configs:
        run = checked(
            config,
            # What is decided for the first is decided for all.
            display if not runs else Display(quiet=True),
            resume=(config.out / "config.json").exists(),
            unused=options.get("unused"),
            given=options.get("given"),
            workspace=workspace,
        )
        runs.append(run)
    # Equal programs are one object within a workspace.
    alike: dict[Steps, list[int]] = {}
    for index, run in enumerate(runs):
        alike.setdefault(run.steps, []).append(index)
    # None of a kind that can be joint.
    reasons = {}
    for steps, indices in alike.items():
        reasons[steps] = why_apart([runs[index] for index in indices])
    apart = [reason for reason in reasons.values() if reason is not None]
    if apart and joint == "on":
        raise UsageError(
            rule="runs that are trained in one program must have all of it in common",
            got=apart[0],
            fix="Leave --joint at auto, which then trains them one after another.",
        )
    summaries: dict[int, dict[str, Any]] = {}
    # A kind after the other, whatever the order of the settings.
    for steps, indices in alike.items():
        if reasons[steps] is None and len(indices) > 1:
            ended = _together(
                [runs[index] for index in indices],
                display,
                options,
            )
        else:
            if reasons[steps] is not None:
                display.line(f"{len(indices)} runs, one after another: {reasons[steps]}")
            ended = _in_turn(
                [configs[index] for index in indices],
                workspace,
                options,
            )
        summaries.update(zip(indices, ended, strict=True))
    return [summaries[index] for index in range(len(configs))]


def _in_turn(
    configs: Sequence[TrainConfig], workspace: Workspace, options: TrainOptions
) -> list[dict[str, Any]]:
    """One run after another."""
    summaries = []
    for config in configs:
        # A finished run is read back, one that was stopped goes on.
        begun = (config.out / "config.json").exists()
        # Process 0 writes the file, and sees it first.
        resume = workspace.mesh.processes.from_first(begun)
        summary = train(
            config,
            resume=resume,
            workspace=workspace,
            **options,
        )
        summaries.append(summary)
    return summaries


def _together(
    runs: Sequence[TrainingRun], display: Display, options: TrainOptions
) -> list[dict[str, Any]]:
    """Runs of one program, or of several where they would not fit into one."""
    # Nothing was written so far: runs that are refused leave no folders behind.
    for run in runs:
        resume = (run.config.out / "config.json").exists()
        open_alone(run, options.get("unused") or {}, resume=resume)
    # The same for all groups, so that all but a smaller last one share a program.
    size = min(lanes_of(runs[0]), len(runs))
    summaries: list[dict[str, Any]] = []
    for first in range(0, len(runs), size):
        group = runs[first : first + size]
        display.line(f"{len(group)} runs in one program (--joint off: one after another)")
        summaries += _train_group(group, display, options)
    return summaries


def _train_group(
    runs: Sequence[TrainingRun], display: Display, options: TrainOptions
) -> list[dict[str, Any]]:
    steps = runs[0].steps
    try:
        if any(not (run.config.out / "summary.json").exists() for run in runs):
            display.line(f"compiling {compile_joint(runs)} programs")
        with StopSignals() as stop:
            turns = []
            for run in runs:
                lines = display.named(run.config.out.name, bar=run is runs[0])
                after_epoch = options.get("after_epoch")
                trackers = Trackers(options.get("track", ()), lines.line)
                turns_of_run = turns_of(
                    run,
                    lines,
                    stop,
                    after_epoch,
                    # All of them are compiled above, once for the group.
                    compiles=False,
                    trackers=trackers,
                )
                turns.append(turns_of_run)
            summaries = train_joint(runs, turns, stop)
    finally:
        steps.executables.cancel()
    stop.end_finished(runs[0].config.out.parent, display.line)
    return summaries


def why_apart(runs: Sequence[TrainingRun]) -> str | None:
    """What keeps these runs from being trained in one program; None if nothing does."""
    first = runs[0]
    if first.mesh.several:
        return "a batch is divided among several devices"
    for run in runs:
        # Equal programs are one object within a workspace.
        if run.steps is not first.steps:
            return "their programs differ"
        states = run.feeds["train"].states
        if not isinstance(states, DeviceStates):
            return "token states wait on the host"
        if states is not first.feeds["train"].states:
            return "they read different states"
    pooler = first.config.pooler
    drops = pooler.dropout or pooler.attention_dropout
    # Joint steps are as long as the longest of the runs' batches, and what is dropped is drawn for
    # a length.
    if drops and len({run.feeds["train"].plan.bounds for run in runs}) > 1:
        return "with dropout all must have one padded length"
    if drops and len(first.feeds["train"].plan.bounds) > 1:
        return "with dropout all batches must have one padded length (--buckets 1)"
    return None


def lanes_of(run: TrainingRun) -> int:
    """How many runs like this one a program may have, at least one."""
    feed = run.feeds["train"]
    config = run.config.pooler
    texts = feed.texts_per_batch
    length = feed.plan.bounds[-1]
    # A few arrays of every width for each token, and for each pair where the graph is dense.
    per_token = 6 * run.model_spec.dim + 16 * config.hidden_dim * config.num_layers
    per_pair = 4 + 6 * config.num_layers
    numbers = texts * length * (per_token + length * per_pair)
    return max(1, _MOST_BYTES // (4 * numbers))


def train_joint(
    runs: Sequence[TrainingRun], turns: Sequence[Turns], stop: StopSignals
) -> list[dict[str, Any]]:
    """Drive runs that nothing keeps apart (`why_apart`).

    A run that fails does not end the others.

    Args:
        runs: from `loop.begin`.
        turns: of each of them, from `loop.turns_of`.
        stop: the one that the turns were given.

    Returns:
        Their summaries.

    Raises:
        Exception: what the first run that failed has raised, after the others have ended.
        KeyboardInterrupt: SIGINT was received, and all are saved.
        SystemExit: SIGTERM was received, and all are saved.
    """
    return _Group(runs, turns, stop).train()


def compile_joint(runs: Sequence[TrainingRun]) -> int:
    """Have the programs of joint runs compiled on other threads; how many they are."""
    first = runs[0]
    feed = first.feeds["train"]
    assert isinstance(feed.states, DeviceStates)
    before = len(first.steps.executables)
    padded = np.max([padded_of_epoch(run.feeds["train"], 0) for run in runs], axis=0)
    states = [run.state for run in runs]
    for length in dict.fromkeys(padded.tolist()):
        steps = shapes_of_epoch(feed)
        first.steps.compile_blocks_ahead(states, feed.states.tokens, steps, length)
    first.compile_ahead(train=False)
    return len(first.steps.executables) - before


class _Group:
    """Lanes of one program, each with a run that wants its next steps, or has ended."""

    def __init__(
        self, runs: Sequence[TrainingRun], turns: Sequence[Turns], stop: StopSignals
    ) -> None:
        self.steps = runs[0].steps
        self.keys = jnp.stack([jax.random.key_data(run.state["key"]) for run in runs])
        self.turns = turns
        self.stop = stop
        self.waiting: dict[int, Turn] = {}
        self.summaries: dict[int, dict[str, Any]] = {}
        self.errors: list[BaseException] = []
        self._epoch: _JointEpoch | None = None

    def train(self) -> list[dict[str, Any]]:
        """See `train_joint`."""
        try:
            for lane in range(len(self.turns)):
                self._resume(lane, None)
            while self.waiting:
                self._step()
        finally:
            # After a second signal: files are closed, and nobody else holds their folders.
            for turns in self.turns:
                turns.close()
        if self.errors:
            raise self.errors[0]
        return [self.summaries[lane] for lane in range(len(self.turns))]

    def _resume(self, lane: int, trained: Trained | None) -> None:
        """Give a lane what came of its turn, and take its next one."""
        turns = self.turns[lane]
        self.waiting.pop(lane, None)
        try:
            # What a generator is sent first is None.
            self.waiting[lane] = next(turns) if trained is None else turns.send(trained)
        except StopIteration as ended:
            self.summaries[lane] = ended.value
        except (KeyboardInterrupt, SystemExit) as error:
            if not self.stop.made(error):
                # Whoever sends a second signal does not want to wait for the other runs.
                raise
            self.errors.append(error)
        except Exception as error:
            # Of this run alone: the others go on to their ends.
            self.errors.append(error)

    def _step(self) -> None:
        """Dispatch the lanes that are furthest behind: after a kill not all stand at one step."""
        step = min(turn.step for turn in self.waiting.values())
        ready: dict[int, Turn] = {}
        limits = []
        for lane, turn in self.waiting.items():
            if turn.step == step:
                ready[lane] = turn
                limits.append(turn.limit)
            else:
                # No further than where the next of them waits.
                limits.append(turn.step - step)
        limit = min(limits)
        if self._epoch is None or not self._epoch.is_of(ready):
            self._epoch = _JointEpoch(ready)
        length, most = self._epoch.at(step)
        # A dispatch has one length, and ends where any of its runs has something to write.
        count = min(limit, most)
        # Lanes that do not take part have somebody else's numbers: the program stays the same.
        stand_in = min(ready)
        states = []
        blocks: list[Block] = []
        for lane in range(len(self.turns)):
            turn = ready.get(lane, ready[stand_in])
            advance = turn.advance
            assert isinstance(advance, Blocks)
            blocks.append(advance.block(step, count, length))
            # Copied, because a program takes the memory of each of its states.
            states.append(turn.state if lane in ready else _copy(turn.state))
        results = self.steps.train_blocks(states, self.keys, blocks)
        for lane, turn in ready.items():
            state, logs = results[lane]
            assert isinstance(turn.advance, Blocks)
            turn.advance.trained(count, logs)
            self._resume(lane, Trained(state, logs, count))


class _JointEpoch:
    """Lengths of the steps of an epoch that some lanes are in."""

    def __init__(self, ready: dict[int, Turn]):
        self.lanes = _advances(ready)
        advances = list(self.lanes.values())
        self.begin = advances[0].begin
        # As long as the longest of the batches of a step.
        self.padded = np.max([advance.padded for advance in advances], axis=0)
        self.runs = run_lengths(self.padded)

    def is_of(self, ready: dict[int, Turn]) -> bool:
        """Whether these lanes are those, in the same epoch."""
        # A run has a new `Blocks` for every epoch.
        return _advances(ready) == self.lanes

    def at(self, step: int) -> tuple[int, int]:
        """Padded length of a step, and how many from it on have that length."""
        index = step - self.begin
        return int(self.padded[index]), int(self.runs[index])


def _advances(ready: dict[int, Turn]) -> dict[int, Blocks]:
    advances = {}
    for lane, turn in ready.items():
        # Else `why_apart` had said so.
        assert isinstance(turn.advance, Blocks)
        advances[lane] = turn.advance
    return advances


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    def copied(leaf: Array) -> Array:
        return leaf.copy()

    return jax.tree.map(copied, state)

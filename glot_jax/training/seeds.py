"""One run several times over, with a seed each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import jax
import numpy as np

from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.files import write_json
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import Summary
from glot_jax.run_folders.run_log import Display, resume_hint
from glot_jax.training.joint import compile_joint, lanes_of, train_joint, why_apart
from glot_jax.training.loop import checked, train, turns_of
from glot_jax.training.prepare import TrainingRun, open_folder
from glot_jax.training.stopping import StopSignals
from glot_jax.training.workspace import Workspace

Joint = Literal["auto", "on", "off"]

_Entries = dict[str, dict[str, float]]
"""Checkpoint (best, last) -> name -> value."""


class TrainOptions(TypedDict, total=False):
    """Keywords of `train` that all seeds share; see there."""

    unused: Mapping[str, Any] | None
    given: Collection[str] | None
    quiet: bool
    after_epoch: Callable[[int, float], None] | None


@renamed_keywords(residents="workspace")
def train_seeds(
    config: TrainConfig,
    seeds: list[int],
    *,
    workspace: Workspace | None = None,
    joint: Joint = "auto",
    **options: Unpack[TrainOptions],
) -> dict[str, Any]:
    """Train a run with each seed, into `RUN/seed-<s>/`, and sum them up in `RUN/summary.json`.

    Called again after a kill or a signal it keeps finished seeds and resumes the one that was
    stopped.

    Args:
        config: the run; `config.out` is RUN.
        seeds: different from one another.
        workspace: see `train`; default: one for these seeds.
        joint: train them step by step in one program; auto: not on a CPU, where that is no faster.
            Numbers of a run differ from those that it has alone by rounding, and do not depend on
            which seeds are finished already.
        options: further keywords of `train`.

    Returns:
        {seeds, mean, std, runs}. mean and std (ddof 1; 0 for one seed) hold every number of the
        seeds' evaluation entries.

    Raises:
        UsageError: repeated seeds, RUN is a run of its own, or seeds that cannot be trained in one
            program are to be; otherwise as `train`.
    """
    different = len(set(seeds)) == len(seeds)
    if len(seeds) == 0 or not different:
        raise UsageError(
            rule="--seeds must be different from one another, at least one",
            got=seeds,
            fix="Drop the repeats.",
        )
    if (config.out / "config.json").exists():
        raise UsageError(
            rule="--out of several seeds must be a folder that holds a run per seed",
            got=f"{config.out}, a run of its own",
            fix="Choose another --out.",
        )
    # Seeds differ by nothing that is compiled or placed: all but the first start at once.
    workspace = Workspace.shared(workspace)
    display = Display(quiet=options.get("quiet", False))
    begun = []
    for seed in seeds:
        out = config.out / f"seed-{seed}"
        begun.append(dataclasses.replace(config, seed=seed, out=out))
    try:
        if joint == "on" or (joint == "auto" and _joint_is_faster(len(seeds))):
            summaries = _together(begun, joint, display, workspace, options)
        else:
            summaries = _in_turn(begun, workspace, options)
    except (KeyboardInterrupt, SystemExit):
        display.line(f"{config.out}: the same command finishes the seeds that are left")
        raise
    summary = {
        "seeds": seeds,
        "mean": _over_runs(summaries, np.mean),
        "std": _over_runs(summaries, _deviation),
        "runs": [f"seed-{seed}" for seed in seeds],
    }
    write_json(config.out / "summary.json", summary, again=resume_hint(config.out))
    return summary


def _joint_is_faster(runs: int) -> bool:
    # Measured (benchmarks/runs_together.py): a GPU has time for more than one small head, the
    # cores of a CPU are busy with one.
    return runs > 1 and jax.default_backend() != "cpu"


def _in_turn(
    configs: Sequence[TrainConfig], workspace: Workspace, options: TrainOptions
) -> list[dict[str, Any]]:
    """One run after another."""
    summaries = []
    for config in configs:
        # A finished seed is read back, one that was stopped goes on.
        resume = (config.out / "config.json").exists()
        summaries.append(train(config, resume=resume, workspace=workspace, **options))
    return summaries


def _together(
    configs: Sequence[TrainConfig],
    joint: Joint,
    display: Display,
    workspace: Workspace,
    options: TrainOptions,
) -> list[dict[str, Any]]:
    """Step by step in one program, or in several where the runs would not fit into one."""
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
    apart = why_apart(runs)
    if apart is not None:
        if joint == "on":
            raise UsageError(
                rule="seeds that are trained in one program must have all of it in common",
                got=apart,
                fix="Leave --joint at auto, which then trains them one after another.",
            )
        display.line(f"{len(runs)} seeds, one after another: {apart}")
        return _in_turn(configs, workspace, options)
    # Nothing was written so far: seeds that are refused leave no folders behind.
    for config, run in zip(configs, runs, strict=True):
        resume = (config.out / "config.json").exists()
        open_folder(run.config, run, resume, options.get("unused") or {})
    # The same for all groups, so that all but a smaller last one share a program.
    size = min(lanes_of(runs[0]), len(runs))
    summaries: list[dict[str, Any]] = []
    for first in range(0, len(runs), size):
        group = runs[first : first + size]
        display.line(f"{len(group)} seeds in one program (--joint off: one after another)")
        summaries += _group(group, display, options)
    return summaries


def _group(
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
                turns.append(turns_of(run, lines, stop, after_epoch, compiles=False))
            summaries = train_joint(runs, turns, stop)
    finally:
        steps.executables.cancel()
    stop.end_finished(runs[0].config.out.parent, display.line)
    return summaries


def _deviation(values: Sequence[float]) -> float:
    # One seed has no deviation; NumPy would say NaN, which JSON does not have.
    if len(values) < 2:
        return 0.0
    return float(np.std(values, ddof=1))


def _over_runs(
    summaries: list[dict[str, Any]],
    reduce: Callable[[Sequence[float]], Any],
) -> dict[str, _Entries]:
    """The values of all runs reduced to one, by split."""
    reduced: dict[str, _Entries] = {}
    # The splits of the first: all runs read one store, and report the same ones.
    for split in Summary.from_json(summaries[0]).splits:
        reduced[split] = {}
        for checkpoint in ("best", "last"):
            entries = [summary[split][checkpoint] for summary in summaries]
            values = {}
            for name in entries[0]:
                values[name] = float(reduce([entry[name] for entry in entries]))
            reduced[split][checkpoint] = values
    return reduced

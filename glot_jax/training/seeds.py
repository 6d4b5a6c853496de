"""One run several times over, with a seed each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np

from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.files import write_json
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import Summary
from glot_jax.run_folders.run_log import Display, resume_hint
from glot_jax.training.joint import Joint, TrainOptions, train_runs
from glot_jax.training.workspace import Workspace

_Entries = dict[str, dict[str, float]]
"""Checkpoint (best, last) -> name -> value."""


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
    processes = workspace.mesh.processes
    display = Display(quiet=options.get("quiet", False) if processes.first else True)
    begun = []
    for seed in seeds:
        out = config.out / f"seed-{seed}"
        begun.append(dataclasses.replace(config, seed=seed, out=out))
    try:
        summaries = train_runs(begun, workspace=workspace, joint=joint, **options)
    except (KeyboardInterrupt, SystemExit):
        display.line(f"{config.out}: the same command finishes the seeds that are left")
        raise
    summary = {
        "seeds": seeds,
        "mean": _over_runs(summaries, np.mean),
        "std": _over_runs(summaries, _deviation),
        "runs": [f"seed-{seed}" for seed in seeds],
    }
    if processes.first:
        write_json(config.out / "summary.json", summary, again=resume_hint(config.out))
    return summary


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

"""Runs of one variant at the learning rate that suits it.

The first seed chooses the rate on the selecting split, then every seed is trained at that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glot_jax.config.train import TrainConfig
from glot_jax.training.workspace import Workspace

if TYPE_CHECKING:
    from glot_jax.run_folders.run_folder import Summary


class Tuned(NamedTuple):
    """Runs of one variant at its best learning rate."""

    lr: float
    """The rate whose best epoch was best on the split that selects."""
    summaries: list[Summary]
    """Summary of each seed's run."""
    folders: list[Path]
    """Run folder of each seed."""


def tuned_runs(
    configure: Callable[[float, int], TrainConfig],
    lrs: Sequence[float],
    seeds: Sequence[int],
    metric: str,
    workspace: Workspace,
) -> Tuned:
    """Choose the learning rate with the first seed, then train every seed at that rate.

    Runs that an earlier call finished are read, those it began are continued.

    Args:
        configure: makes the settings of a run from its rate and seed.
        lrs: rates to try.
        seeds: of the runs.
        metric: that compares rates, on the split that selects epochs.
        workspace: see `glot_jax.training.train`.
    """
    from glot_jax.run_folders.run_folder import Summary
    from glot_jax.training import train

    def run(lr: float, seed: int) -> Summary:
        config = configure(lr, seed)
        resume = (config.out / "config.json").exists()
        return Summary.from_json(
            train(
                config,
                resume=resume,
                quiet=True,
                workspace=workspace,
            )
        )

    # The other seeds take the first one's rate: tuning each would triple the cost.
    first = seeds[0]
    tried = {lr: run(lr, first) for lr in lrs}

    # Of equal scores the lower loss decides: on small splits ties are common.
    def rank(lr: float) -> tuple[float, float]:
        scores = tried[lr].selecting.best
        return scores[metric], -scores["loss"]

    lr = max(tried, key=rank)
    # The first seed's run at this rate is there already.
    summaries = [tried[lr]]
    summaries += [run(lr, seed) for seed in seeds[1:]]
    folders = [configure(lr, seed).out for seed in seeds]
    return Tuned(lr, summaries, folders)

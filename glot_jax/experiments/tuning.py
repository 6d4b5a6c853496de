"""Runs of one variant: the learning rate chosen on the selecting split by the first seed, then
every seed at that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glot_jax.config.train import TrainConfig


class Tuned(NamedTuple):
    lr: float
    """The rate whose best epoch was best on the split that selects."""
    summaries: list[dict[str, Any]]
    """Of each seed."""
    folders: list[Path]
    """Run folders of each seed."""


def tuned_runs(
    configure: Callable[[float, int], TrainConfig],
    lrs: Sequence[float],
    seeds: Sequence[int],
    metric: str,
    residents: dict[tuple, Any],
) -> Tuned:
    """Train what `configure(lr, seed)` describes. Runs that an earlier call finished are read,
    those it began are continued.

    Args:
        metric: that compares rates, on the split that selects epochs.
        residents: token states already placed, as in glot_jax.training.train.
    """
    from glot_jax.training import train

    def run(lr: float, seed: int) -> dict[str, Any]:
        config = configure(lr, seed)
        return train(
            config, resume=(config.out / "config.json").exists(), quiet=True, residents=residents
        )

    first = seeds[0]
    tried = {lr: run(lr, first) for lr in lrs}
    # Of equal scores the lower loss decides: on small splits ties are common.
    lr = max(
        tried,
        key=lambda lr: (selecting_scores(tried[lr])[metric], -selecting_scores(tried[lr])["loss"]),
    )
    summaries = [tried[lr] if seed == first else run(lr, seed) for seed in seeds]
    return Tuned(lr, summaries, [configure(lr, seed).out for seed in seeds])


def selecting_scores(summary: dict[str, Any]) -> dict[str, float]:
    """A summary's best scores on the split that selected its epoch; validation where the last epoch
    is taken unselected.
    """
    # A holdout of a store without a validation split goes by that name.
    split = next(name for name in (summary["selected_on"], "validation") if name in summary)
    return summary[split]["best"]

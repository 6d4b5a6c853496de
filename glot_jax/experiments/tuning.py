"""Runs of one variant at the settings that suit it.

The first seed chooses the rate on the selecting split, then every seed is trained at that rate. Or
seeds that are never reported choose rate, layer and number of epochs on holdouts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.files import read_json
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


@dataclasses.dataclass(frozen=True)
class Choice:
    """Settings of one variant that selection seeds have chosen."""

    lr: float
    layer: int | None
    """None: the store's last."""
    epochs: int
    score: float
    """Mean over the selection seeds on their holdouts, at this epoch."""

    def applied(self, config: TrainConfig) -> TrainConfig:
        """The settings of a reported run: all training rows, to the epoch that was chosen."""
        return dataclasses.replace(
            config,
            layer=self.layer,
            epochs=self.epochs,
            objective=dataclasses.replace(config.objective, select_on="last"),
            optimizer=dataclasses.replace(config.optimizer, lr=self.lr),
        )


@dataclasses.dataclass(frozen=True)
class SelectionTrial:
    """One rate and layer, with the mean over the selection seeds after each epoch."""

    lr: float
    layer: int | None
    means: tuple[float, ...]
    """On the holdouts, epoch by epoch."""
    losses: tuple[float, ...]

    def best(self) -> tuple[float, float, int]:
        """Highest mean, the negative of its loss, and minus its epoch: compared in this order."""
        ranked = []
        for epoch, (mean, loss) in enumerate(zip(self.means, self.losses, strict=True), 1):
            # Of equal epochs the earlier one: it costs less.
            ranked.append((mean, -loss, -epoch))
        return max(ranked)


@dataclasses.dataclass(frozen=True)
class Selection:
    """What was chosen for one variant on one task, and all trials that it was chosen from."""

    task: str
    variant: str
    """Its label, which cards may give differently."""
    settings: Mapping[str, Any]
    """What makes the variant, whatever its label."""
    grid: Mapping[str, Any]
    """What was tried, with which seeds, on which rows."""
    chosen: Choice
    trials: tuple[SelectionTrial, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in selection.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Selection:
        """See to_json."""
        trials = []
        for trial in values["trials"]:
            curves = {name: tuple(trial[name]) for name in ("means", "losses")}
            trials.append(SelectionTrial(trial["lr"], trial["layer"], **curves))
        return cls(
            task=values["task"],
            variant=values["variant"],
            settings=values["settings"],
            grid=values["grid"],
            chosen=Choice(**values["chosen"]),
            trials=tuple(trials),
        )

    def require_grid(self, grid: Mapping[str, Any]) -> None:
        """Check that it was chosen from what would be tried now.

        Raises:
            UsageError: it was not; the message names what differs.
        """
        differing = []
        for name, value in grid.items():
            if self.grid.get(name) != value:
                differing.append(f"{name} {self.grid.get(name)} there, {value} here")
        if differing:
            raise UsageError(
                rule="--choices must have been made with the settings of this command",
                got=f"{self.task}, {self.variant}: {'; '.join(differing)}",
                fix="Give the same settings, or leave --choices out to choose anew.",
            )


def read_selections(path: Path) -> list[Selection]:
    """Read a selection.json.

    Raises:
        UsageError: a file that is not one.
    """
    fix = "Give a selection.json that glot reproduce has written."
    values = read_json(path, fix)
    try:
        return list(map(Selection.from_json, values))
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            rule="--choices must be the selection.json of glot reproduce", got=str(path), fix=fix
        ) from error


def select(
    configure: Callable[[float, int | None, int], TrainConfig],
    lrs: Sequence[float],
    layers: Sequence[int],
    seeds: Sequence[int],
    metric: str,
    workspace: Workspace,
) -> tuple[Choice, list[SelectionTrial]]:
    """Choose rate, layer and number of epochs by the mean of some seeds on their holdouts.

    Args:
        configure: makes the settings of a run from rate, layer and seed, selecting on a holdout.
        lrs: rates to try.
        layers: to try; none: the store's last.
        seeds: that select, and are never reported.
        metric: that compares.
        workspace: see `glot_jax.training.train`.

    Returns:
        The choice, and all trials.
    """
    from glot_jax.reporting.finished_runs import FinishedRun
    from glot_jax.run_folders.run_folder import RunFolder, Summary
    from glot_jax.training.joint import train_runs

    trials = []
    for layer in layers or [None]:
        for lr in lrs:
            configs = [configure(lr, layer, seed) for seed in seeds]
            summaries = train_runs(
                configs,
                workspace=workspace,
                quiet=True,
            )
            by_metric: dict[str, list[list[float]]] = {metric: [], "loss": []}
            for config, values in zip(configs, summaries, strict=True):
                summary = Summary.from_json(values)
                folder = RunFolder.open(config.out)
                run = FinishedRun(folder, summary)
                for name, curves in by_metric.items():
                    curve = run.curve(str(summary.selected_on), name)
                    # Epochs follow one another from the first on.
                    curves.append([value for _, value in curve])
            means = np.mean(by_metric[metric], axis=0)
            losses = np.mean(by_metric["loss"], axis=0)
            trial = SelectionTrial(
                lr,
                layer,
                tuple(means.tolist()),
                tuple(losses.tolist()),
            )
            trials.append(trial)
    # Of equal trials the first: rates and layers come in the order of the command.
    best = max(trials, key=SelectionTrial.best)
    score, _, epoch = best.best()
    return Choice(best.lr, best.layer, -epoch, float(score)), trials

"""The trials of a sweep: what each is trained with, and what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.config.base import Config, flag
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import TrainConfig
from glot_jax.experiments.search_space import SearchSpace, identity


@dataclasses.dataclass(frozen=True)
class SweepTrial:
    """One finished trial."""

    number: int
    state: str
    """complete, pruned or failed."""
    score: float | None
    """Best score on the selecting split; of several seeds their mean."""
    deviation: float | None
    """Standard deviation over seeds; None of a single one."""
    reported: Mapping[str, Mapping[str, float]] | None
    """Evaluation split -> metrics at the best epoch, means over seeds; None where training did not
    end.
    """
    parameters: int | None
    seconds: float | None
    run: str | None
    """Its run folder, or that of its seeds' runs."""
    reason: str | None
    """Why it failed."""
    values: Mapping[str, Any]
    """The values tried, by the name of the setting."""

    def to_json(self) -> dict[str, Any]:
        """The trial as it stands in sweep.json, the values tried among its fields."""
        fields = dict(vars(self))
        values = fields.pop("values")
        return {**fields, **values}


def trial_folder(config: SweepConfig, values: Mapping[str, Any]) -> Path:
    """The folder of a trial, named by its values: the same trial finds its folder again."""
    # By the values alone: other settings have another OUT.
    digest = hashlib.sha256(identity(values).encode()).hexdigest()
    # Twelve digits are enough for thousands of trials.
    return config.out / "trials" / digest[:12]


def trial_runs(
    config: SweepConfig, space: SearchSpace, values: Mapping[str, Any]
) -> list[TrainConfig]:
    """The settings of a trial's runs, one for each seed.

    Raises:
        UsageError: settings that contradict.
    """
    folder = trial_folder(config, values)
    settings = space.config(values)
    runs = []
    for seed in config.trial_seeds:
        # One run is the trial itself, as in sweeps of one seed from the first version on.
        out = folder
        if len(config.trial_seeds) > 1:
            out = folder / f"seed-{seed}"
        runs.append(dataclasses.replace(settings, seed=seed, out=out))
    return runs


def best_first(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """The trials, best first; of equal ones that with the fewest parameters, then the first tried.

    Those that have no score stand last.
    """

    def rank(trial: SweepTrial) -> tuple[bool, float, int, int]:
        # A pruned trial has the score of its last epoch, which was not its last chance.
        if trial.state != "complete":
            return True, 0.0, 0, trial.number
        return (
            False,
            -_rounded(trial.score),
            trial.parameters or 0,
            trial.number,
        )

    return sorted(trials, key=rank)


def tied(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """The trials that share the best score; none where one alone has it.

    Args:
        trials: best first.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    equal = []
    for trial in complete:
        if _rounded(trial.score) == _rounded(complete[0].score):
            equal.append(trial)
    # Alone at the head, a trial ties with nobody.
    if len(equal) == 1:
        return []
    return equal


def _rounded(score: float | None) -> float:
    # The same right answers give the same score but for the last digits of a sum.
    return round(score or 0.0, 9)


def command_of(
    config: SweepConfig,
    space: SearchSpace,
    plain: TrainConfig,
    values: Mapping[str, Any],
    out: str,
) -> str:
    """The command that trains one trial again, to the same numbers.

    Args:
        config: of the sweep.
        space: of the sweep.
        plain: what train.py trains where nothing but --preset, --store and --out is given.
        values: of the trial.
        out: run folder that the command writes.
    """
    words = ["python", "train.py"]
    if config.preset is not None:
        words += ["--preset", config.preset]
    words += ["--store", str(config.store), "--out", out]
    settings = space.config(values)
    # What decides the numbers is told, even where it is a default of today.
    told = {"pooler", "epochs", "batch_size", "select_on", *values}
    for name, value, default in _leaves(settings, plain):
        # Told already, or told below.
        if name in ("store", "out", "seed"):
            continue
        if value == default and name not in told:
            continue
        # No flag says that there is none, and none is needed where that is the default.
        if value is None and default is None:
            continue
        typed = _typed(name, value)
        if typed is None:
            # A value that no flag can have: the run says it all.
            first, *_ = trial_runs(config, space, values)
            run = first.out / "config.json"
            words = ["python", "train.py", "--config", str(run), "--out", out]
            break
        words += typed
    if config.seeds:
        words += ["--seeds", *map(str, config.seeds)]
    else:
        words += ["--seed", str(config.seed)]
    return shlex.join(words)


def _leaves(settings: Config, plain: Config) -> list[tuple[str, Any, Any]]:
    """Name, value and default of every setting, those of the groups among them."""
    leaves = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        default = getattr(plain, field.name)
        if isinstance(value, Config):
            leaves += _leaves(value, default)
        else:
            leaves.append((field.name, value, default))
    return leaves


def _typed(name: str, value: object) -> list[str] | None:
    """A setting as it is typed; None where it cannot be."""
    if value is None or name == "own":
        return None
    if isinstance(value, bool):
        # tyro's spelling of a flag that is switched off.
        if not value:
            name = f"no_{name}"
        return [flag(name)]
    if isinstance(value, tuple):
        return [flag(name), *map(str, value)]
    return [flag(name), str(value)]

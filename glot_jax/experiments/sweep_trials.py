"""The trials of a sweep: what each is trained with, and what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glot_jax.config.base import flag
from glot_jax.config.experiments import SPACE, SweepConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)


@dataclasses.dataclass(frozen=True)
class SweepTrial:
    """One finished trial."""

    number: int
    state: str
    """complete, pruned or fail."""
    score: float | None
    """Best score on the selecting split."""
    reported: Mapping[str, Mapping[str, float]] | None
    """Evaluation split -> metrics at the best epoch; None where training did not end."""
    parameters: int | None
    seconds: float | None
    run: str | None
    """Its run folder."""
    values: Mapping[str, Any]
    """The values tried, by the name of the setting."""

    def to_json(self) -> dict[str, Any]:
        """The trial as it stands in sweep.json, the values tried among its fields."""
        fields = dict(vars(self))
        values = fields.pop("values")
        return {**fields, **values}


def trial_config(
    config: SweepConfig,
    values: Mapping[str, Any],
    out: Path,
) -> TrainConfig:
    """The settings of a trial's training.

    Args:
        config: of the sweep.
        values: a value for each setting of SPACE.
        out: run folder.

    Raises:
        UsageError: a value that the setting cannot have.
    """
    return TrainConfig(
        store=config.store,
        out=out,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        graph=GraphConfig(tau=values["tau"]),
        pooler=PoolerConfig(
            hidden_dim=values["hidden_dim"],
            num_layers=values["num_layers"],
            jk=values["jk"],
            # A sweep spells "no projection" as 0, so that it is one of the values.
            projection_dim=values["projection_dim"] or None,
        ),
        optimizer=OptimizerConfig(lr=values["lr"], weight_decay=values["weight_decay"]),
        objective=ObjectiveConfig(select_on=config.select_on, metric=config.metric),
    )


def trial_folder(config: SweepConfig, values: Mapping[str, Any]) -> Path:
    """The run folder of a trial, named by its values: the same trial finds its folder again."""
    # By the values alone: other settings have another OUT.
    content = json.dumps(values, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    # Twelve digits are enough for thousands of trials.
    return config.out / "trials" / digest[:12]


def command_of(
    config: SweepConfig,
    values: Mapping[str, Any],
    out: str,
) -> str:
    """The command that trains one trial again, to the same numbers.

    Args:
        config: of the sweep.
        values: of the trial.
        out: run folder that the command writes.
    """
    options = {
        "store": config.store,
        "out": out,
        "pooler": "glot",
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "select_on": config.select_on,
    }
    if config.metric is not None:
        options["metric"] = config.metric
    for name in SPACE:
        # train.py has no value for "no projection": the option is left out.
        if name != "projection_dim" or values[name]:
            options[name] = values[name]
    # What is left out is the default of train.py, as it was in the trial.
    words = ["python", "train.py"]
    for name, value in options.items():
        words += [flag(name), str(value)]
    return shlex.join(words)

"""What a run decides by itself, in words: a line each, which people see before the work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from glot_jax.config.base import flag
from glot_jax.config.train import ObjectiveConfig, TrainConfig
from glot_jax.objectives import OBJECTIVES, TaskSpec, objective_kind
from glot_jax.pooling import Mlp, Pooler, count_parameters
from glot_jax.store.reader import HiddenStore


def read_by_others(task: TaskSpec) -> list[str]:
    """Fields of ObjectiveConfig that only objectives of other tasks read, in their order there."""
    reads = OBJECTIVES[objective_kind(task)].reads
    others: set[str] = set()
    for objective in OBJECTIVES.values():
        others |= objective.reads
    # In the order of the settings, so that equal runs print equal lines.
    fields = [field.name for field in dataclasses.fields(ObjectiveConfig)]
    return [name for name in fields if name in others and name not in reads]


def unread_by_pooler(unused: Mapping[str, Any]) -> list[str]:
    """A line about options that were given and that this pooler does not read."""
    if not unused:
        return []
    return [f"not read with these settings: {', '.join(map(flag, unused))}"]


def unread_by_task(
    config: ObjectiveConfig, task: TaskSpec, given: Collection[str] | None
) -> list[str]:
    """A line about options that were given and that a task of this kind does not read.

    Args:
        config: the settings.
        task: the task.
        given: names of fields that were given; None: those whose value is not the default.
    """
    default = ObjectiveConfig()
    unread = []
    for name in read_by_others(task):
        if given is None:
            # In Python nobody can tell a value that was given from one that was left alone.
            is_given = getattr(config, name) != getattr(default, name)
        else:
            is_given = name in given
        if is_given:
            unread.append(flag(name))
    if not unread:
        return []
    return [f"not read for a task of kind {objective_kind(task)}: {', '.join(unread)}"]


def chosen_layer(store: HiddenStore, config: TrainConfig) -> list[str]:
    """A line about the layer that is read where several are stored and none was asked for."""
    if config.layer is not None:
        return []
    if config.mix_layers is not None:
        return []
    if len(store.stored_layers) == 1:
        return []
    stored = ", ".join(map(str, store.stored_layers))
    return [
        f"layer {store.layers[0]} of the stored {stored}; choose another with --layer, or several"
        " with --mix-layers"
    ]


def chosen_split(
    config: TrainConfig,
    selected_on: str,
    metric: str,
    held_out: int,
) -> list[str]:
    """A line about the rows that select the best epoch where nobody said which."""
    if config.objective.select_on != "auto":
        return []
    rows = selected_on
    # People did not ask for a holdout: how many rows training loses to it must be said.
    if selected_on == "holdout":
        rows = f"{held_out:,} training rows set aside, for want of a validation split"
    return [f"the best epoch is chosen by {metric} on {rows} (--select-on, --metric)"]


def extended(saved: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The settings of a run that goes on after its end, from what it was and what it is to be."""
    # What else was changed is not allowed, and shows as a difference.
    optimizer = dataclasses.replace(
        saved.optimizer, schedule_epochs=config.optimizer.schedule_epochs
    )
    return dataclasses.replace(saved, epochs=config.epochs, optimizer=optimizer)


def longer_run(saved: TrainConfig, config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """The settings of a run that is to have more epochs, and a line about its schedule.

    Args:
        saved: what it was trained with.
        config: the same with more epochs; the schedule is stretched over all of them where its
            `schedule_epochs` are these, and stays at its end otherwise.
    """
    # A run may be extended more than once: the schedule is that of its first end.
    optimizer = saved.optimizer
    scheduled = optimizer.schedule_epochs or saved.epochs
    parts = []
    if optimizer.schedule == "cosine":
        parts.append("the cosine")
    if optimizer.warmup_fraction is not None:
        parts.append("the warm-up")
    if saved.graph.learn_tau:
        parts.append("the temperature of soft edges")
    more = f"{config.epochs} epochs instead of {saved.epochs}"
    # What knows nothing of the run's length is the same in a longer one, to the last byte.
    if not parts:
        optimizer = dataclasses.replace(config.optimizer, schedule_epochs=None)
        config = dataclasses.replace(config, optimizer=optimizer)
        return config, [f"{more}: as a run that had {config.epochs} from the beginning"]
    named = " and ".join(parts)
    if config.optimizer.schedule_epochs == config.epochs:
        line = f"{more}: {named} as of a run of {config.epochs}, from here on (--reschedule)"
        schedule_epochs = None
    else:
        line = (
            f"{more}: {named} of the first {scheduled} stays at its end (--reschedule stretches it"
            f" over all {config.epochs})"
        )
        schedule_epochs = scheduled
    optimizer = dataclasses.replace(config.optimizer, schedule_epochs=schedule_epochs)
    return dataclasses.replace(config, optimizer=optimizer), [line]


def as_begun(saved: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The settings of a resumed run, with what was decided for it where they leave it open.

    Args:
        saved: what config.json of the run says.
        config: the settings that it is to go on with.
    """
    if config.xla_cpu_options == "auto":
        # A resumed run has the programs that it began with.
        config = dataclasses.replace(config, xla_cpu_options=saved.xla_cpu_options)
    if config.buckets is None:
        # Their number follows from --epochs: of a run that was made longer it would be another.
        config = dataclasses.replace(config, buckets=saved.buckets)
    # What made the run longer, given again: the end of its schedule is decided by now.
    schedule_epochs = config.optimizer.schedule_epochs
    stretched = schedule_epochs == config.epochs and saved.optimizer.schedule_epochs is None
    if config.epochs == saved.epochs and (schedule_epochs is None or stretched):
        optimizer = dataclasses.replace(
            config.optimizer, schedule_epochs=saved.optimizer.schedule_epochs
        )
        config = dataclasses.replace(config, optimizer=optimizer)
    return config


MANY_CORES = 16
"""Cores of which a small head leaves most idle."""


def idle_hardware(platform: str, devices: int, cores: int) -> list[str]:
    """A line about devices or cores that a run does not use.

    Args:
        platform: of JAX: cpu, gpu or tpu.
        devices: that this process sees.
        cores: that it may use.
    """
    if platform != "cpu" and devices > 1:
        return [
            f"{devices} devices, of which a run uses the first: start several runs, each with a"
            " device of its own (CUDA_VISIBLE_DEVICES), or train it on all (--devices all)"
        ]
    if platform == "cpu" and cores >= MANY_CORES:
        return [
            f"{cores} cores, of which the steps of a small head leave most idle: several runs at a"
            " time use them (glot sweep --workers, or a process each)"
        ]
    return []


def matched_size(pooler: Pooler) -> list[str]:
    """A line about an mlp that is as large as the glot it stands in for."""
    if not isinstance(pooler, Mlp) or pooler.matched is None:
        return []
    return [
        f"mlp: {count_parameters(pooler):,} parameters, to match the {pooler.matched:,} of the glot"
        " it stands in for"
    ]

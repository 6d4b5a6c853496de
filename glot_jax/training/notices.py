"""What a run decides by itself, in words: a line each, which people see before the work starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from glot_jax.config.base import flag
from glot_jax.config.train import ObjectiveConfig, TrainConfig
from glot_jax.store.reader import HiddenStore


def unread_by_pooler(unused: Mapping[str, Any]) -> list[str]:
    """Of options that were given and that this pooler does not read."""
    return [f"not read with these settings: {', '.join(map(flag, unused))}"] if unused else []


def unread_by_task(config: ObjectiveConfig, kind: str, given: Collection[str] | None) -> list[str]:
    """Of options that were `given` (None: those that are not the default) and that a task of this
    kind does not read.
    """
    unread = ObjectiveConfig.names_for_other_tasks(kind)
    if given is None:
        given = [
            name for name in unread if getattr(config, name) != getattr(ObjectiveConfig(), name)
        ]
    flags = [flag(name) for name in unread if name in given]
    return [f"not read for a task of kind {kind}: {', '.join(flags)}"] if flags else []


def chosen_layer(store: HiddenStore, config: TrainConfig) -> list[str]:
    """Of the layer that is read where several are stored and none was asked for."""
    if config.layer is not None or config.mix_layers is not None or len(store.stored_layers) == 1:
        return []
    stored = ", ".join(map(str, store.stored_layers))
    return [
        f"layer {store.layers[0]} of the stored {stored}; choose another with --layer, or several"
        " with --mix-layers"
    ]


def chosen_split(config: TrainConfig, selected_on: str, metric: str, held_out: int) -> list[str]:
    """Of the rows that select the best epoch where nobody said which."""
    if config.objective.select_on != "auto":
        return []
    if selected_on == "holdout":
        where = f"{held_out:,} training rows set aside, for want of a validation split"
    else:
        where = selected_on
    return [f"the best epoch is chosen by {metric} on {where} (--select-on, --metric)"]

"""Flags of `train.py` for the options that the parts of plugins bring along."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from glot_jax.cli.parsing import Leaf, leaves
from glot_jax.config.base import Config, flag
from glot_jax.config.own_options import OwnOptions
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.registry import Registry, registered_by_plugins


class Brought(NamedTuple):
    """The options that one part brings."""

    group: str
    """Field of TrainConfig whose `own` holds them: pooler, graph or objective."""
    setting: str
    """Field of that group which names the part: pooler, gnn, graph, objective."""
    part: str
    """Name of the part."""
    options: type[Config]


def own_options() -> list[Brought]:
    """The options of every part that a plugin has registered in this process."""
    # The tables stand in JAX, which is not loaded for a command without plugins.
    if not registered_by_plugins():
        return []
    from glot_jax.graphs import RULES
    from glot_jax.objectives import OBJECTIVES
    from glot_jax.pooling import GNN_LAYERS, POOLERS

    tables: list[tuple[str, str, Registry[Any]]] = [
        ("pooler", "pooler", POOLERS),
        ("pooler", "gnn", GNN_LAYERS),
        ("graph", "graph", RULES),
        ("objective", "objective", OBJECTIVES),
    ]
    brought = []
    for group, setting, table in tables:
        for name, part in table.items():
            # Only parts of plugins have some: ours read the settings themselves.
            options = getattr(part, "own_options", None)
            if options is not None:
                brought.append(Brought(group, setting, name, options))
    return brought


def own_flags(brought: list[Brought], base: TrainConfig | None = None) -> dict[str, Leaf]:
    """The flags of these options.

    Args:
        brought: What the parts bring.
        base: Whose values are the defaults; without it, those of the parts' classes.

    Raises:
        UsageError: Two classes have an option of the same name.
    """
    flags: dict[str, Leaf] = {}
    owners: dict[str, type[Config]] = {}
    for source in brought:
        saved = OwnOptions() if base is None else getattr(base, source.group).own
        for name, leaf in leaves(source.options).items():
            # Parts may share a class of options, but not the name of an option by accident.
            owner = owners.setdefault(name, source.options)
            if owner is not source.options:
                raise UsageError(
                    rule="options of plugins must have names of their own",
                    got=f"{flag(name)} of {owner.__name__} and of {source.options.__name__}",
                    fix="Rename one of them, or name one plugin at a time.",
                )
            default = saved.get(name, leaf.default)
            flags[name] = dataclasses.replace(leaf, default=default)
    return flags


def unread_own_options(
    config: TrainConfig, flags: Mapping[str, Leaf], values: Mapping[str, object]
) -> dict[str, object]:
    """The options of plugins' parts that the settings do not choose, with their values."""
    # `with_own_options` has put there what the chosen parts read, and nothing else.
    read = {*config.pooler.own, *config.graph.own, *config.objective.own}
    return {name: values[name] for name in flags if name not in read}


def require_free_names(flags: Mapping[str, Leaf], ours: Mapping[str, Leaf]) -> None:
    """Refuse options of plugins that are called as one of ours is.

    Raises:
        UsageError: A name that is taken.
    """
    # Flags have no prefix of their plugin: two of one name could not be told apart.
    for name in flags:
        if name in ours:
            raise UsageError(
                rule="an option of a plugin must have a name that train.py does not have",
                got=flag(name),
                fix="Rename the field in the plugin's class of options.",
            )


def with_own_options(
    config: TrainConfig, brought: list[Brought], values: Mapping[str, object]
) -> TrainConfig:
    """The settings, with the options of the parts that they choose.

    Args:
        config: The settings.
        brought: What the parts bring.
        values: The value of every flag.

    Raises:
        UsageError: An option breaks a rule of its class.
    """
    if not brought:
        return config
    # What a run in --config had of another part does not stay.
    chosen: dict[str, dict[str, object]] = {"pooler": {}, "graph": {}, "objective": {}}
    for source in brought:
        group = getattr(config, source.group)
        # A part that is not chosen is not built, and its options would say nothing.
        if getattr(group, source.setting) != source.part:
            continue
        own = {name: values[name] for name in source.options.names()}
        # Checked where they were typed, not when the part is built.
        source.options(**cast("Any", own))
        chosen[source.group].update(own)
    groups = {
        name: dataclasses.replace(getattr(config, name), own=OwnOptions(own))
        for name, own in chosen.items()
    }
    return dataclasses.replace(config, **groups)

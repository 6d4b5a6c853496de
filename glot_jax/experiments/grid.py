"""The combinations of a comparison: which there are, and what they are called."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from glot_jax.config.base import NUMBERS
from glot_jax.config.flat import with_values
from glot_jax.config.json import differences
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.pooling.options import unread_options

_FIRST = ("pooler", "gnn", "graph")
"""Settings that a combination is named by first."""
_LONGEST_NAME = 120
"""Characters of a folder's name; file systems take 255 bytes."""


@dataclasses.dataclass(frozen=True)
class Combination:
    """One setting of a comparison, to be trained with several seeds."""

    label: str
    """As tables name it: the values of the settings that vary and that it reads."""
    folder: str
    """The same as the name of a folder."""
    config: TrainConfig
    """Its settings; seed and folder are those of the base."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The combinations of a comparison, none of which means the same as another."""

    combinations: tuple[Combination, ...]
    repeats: int
    """Combinations that were left out because they mean the same as one of these."""


def grid_of(base: TrainConfig, axes: Mapping[str, Sequence[Any]]) -> Grid:
    """The cross product of some settings' values.

    Args:
        base: every other setting.
        axes: name of a setting -> its values, JSON values or Python's; the first axis varies
            slowest.

    Raises:
        UsageError: a value that the setting cannot have, or settings that contradict; an unknown
            setting, one without a value, or a value twice.
    """
    for name, values in axes.items():
        if not values:
            raise UsageError(
                rule="a setting of a comparison must have a value",
                got=f"{name} without one",
                fix="Leave it out, or give it one.",
            )
        # By their texts: lists have no hash.
        texts = [json.dumps(value, default=str) for value in values]
        if len(set(texts)) < len(texts):
            raise UsageError(
                rule="the values of a setting must be different from one another",
                got=f"{name} {' '.join(texts)}",
                fix="Drop the repeats.",
            )
    # A setting with one value tells no combination from another.
    varying = [name for name in axes if len(axes[name]) > 1]
    by_meaning: dict[str, Combination] = {}
    count = 0
    for values in itertools.product(*axes.values()):
        count += 1
        chosen = dict(zip(axes, values, strict=True))
        config = with_values(base, chosen)
        # The first of equals, whose values are the first that were given.
        meaning = meaning_of(config)
        if meaning not in by_meaning:
            unread = unread_options(config.graph, config.pooler)
            read = [name for name in varying if name not in unread]
            # What a table is read by comes first; the sort keeps the order of the others.
            read.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
            told = {name: chosen[name] for name in read}
            by_meaning[meaning] = Combination(_label(told, config), _folder(told, config), config)
    return Grid(tuple(by_meaning.values()), count - len(by_meaning))


def meaning_of(config: TrainConfig) -> str:
    """What decides the numbers of a run but its seed: equal for settings that mean the same.

    What the pooler does not read is left out.
    """
    unread = unread_options(config.graph, config.pooler)
    part = config.part(NUMBERS)
    for group in ("graph", "pooler"):
        part[group] = {name: value for name, value in part[group].items() if name not in unread}
    # Seeds are repeats of one combination.
    part.pop("seed", None)
    return json.dumps(part, sort_keys=True, default=str)


def is_run_of(saved: TrainConfig, planned: TrainConfig) -> bool:
    """Whether a run is that of these settings and this seed.

    A run's config.json holds what was decided for it where the settings leave it open: how many
    lengths, XLA's options, the tau of a density, whether states are standardised, the weights of
    classes.
    """
    if saved.seed != planned.seed:
        return False
    return meaning_of(_as_decided(saved, planned)) == meaning_of(saved)


def other_settings(saved: TrainConfig, planned: TrainConfig) -> list[str]:
    """What keeps a run from being that of these settings, each as `name: saved -> planned`.

    Seeds are not compared.
    """
    before = json.loads(meaning_of(saved))
    now = json.loads(meaning_of(_as_decided(saved, planned)))
    return differences(before, now)


def _as_decided(saved: TrainConfig, planned: TrainConfig) -> TrainConfig:
    """The planned settings, with what was decided for a run where they leave it open."""
    changes: dict[str, Any] = {}
    if planned.buckets is None:
        changes["buckets"] = saved.buckets
    if planned.xla_cpu_options == "auto":
        changes["xla_cpu_options"] = saved.xla_cpu_options
    if planned.graph.tau_density is not None:
        changes["graph"] = dataclasses.replace(planned.graph, tau=saved.graph.tau)
    if planned.pooler.standardise is None:
        decided = saved.pooler.standardise
        changes["pooler"] = dataclasses.replace(planned.pooler, standardise=decided)
    if planned.objective.class_weight != "none":
        weights = saved.objective.class_weights
        changes["objective"] = dataclasses.replace(planned.objective, class_weights=weights)
    return dataclasses.replace(planned, **changes)


def _label(told: Mapping[str, Any], config: TrainConfig) -> str:
    """`glot, tau 0.3, layer 15`: the pooler, then every other setting that varies."""
    parts = [config.pooler.pooler]
    for name, value in told.items():
        if name == "pooler":
            continue
        # A GNN is known by its own name.
        text = _text(value)
        parts.append(text if name == "gnn" else f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)


def _folder(told: Mapping[str, Any], config: TrainConfig) -> str:
    # A folder's name has no blanks and no commas: it is typed, and completed by shells.
    words = [config.pooler.pooler]
    for name, value in told.items():
        if name != "pooler":
            text = _text(value).replace(" ", "-")
            words.append(text if name == "gnn" else f"{name.replace('_', '-')}-{text}")
    name = "_".join(re.sub(r"[^A-Za-z0-9.+-]", "-", word) for word in words)
    if len(name) <= _LONGEST_NAME:
        return name
    # Two long names may begin alike: the hash tells them apart.
    digest = hashlib.sha256(meaning_of(config).encode()).hexdigest()
    return f"{name[: _LONGEST_NAME - 13]}_{digest[:12]}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return " ".join(map(_text, value))
    return "none" if value is None else str(value)

"""What a sweep searches: the values of a trial, and which combinations there are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from glot_jax.config.axes import Axis, Choices, checked_axes, spelled_values
from glot_jax.config.base import Config
from glot_jax.config.flat import with_values
from glot_jax.config.train import TrainConfig
from glot_jax.pooling.options import unread_options

Part = TypeVar("Part", bound=Config)

Values = dict[str, Any]
"""Name of a setting -> the value that a trial has of it."""

MANY = 10_000
"""Combinations from which on a space is not listed: nobody tries them all."""
_DECIDING = ("pooler", "gnn", "graph", "num_layers", "learn_tau", "backend")
"""Settings that decide which others are read: chosen first."""


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The settings that are searched, with their values, and all others.

    A setting that a trial's pooler does not read is no part of that trial, so that no two trials
    mean the same. Chosen one after another, what decides about others first.
    """

    base: TrainConfig
    """Every setting that is not searched."""
    axes: Mapping[str, Axis]

    @classmethod
    def create(
        cls, base: TrainConfig, axes: Mapping[str, Axis], listed: Collection[str] = ()
    ) -> SearchSpace:
        """The space, after every value was tried on the settings: a misspelt one ends here.

        Args:
            base: every setting that is not among `axes`.
            axes: name of a setting -> its values. One that has a single value is set, not searched.
            listed: settings that stand among a trial's values even with a single one.

        Raises:
            UsageError: a setting that train.py does not have, a value that it cannot have, or
                settings that contradict.
        """
        # Stable: behind the deciding ones the order is that of the caller.
        ranks: dict[str, int] = dict(zip(_DECIDING, range(len(_DECIDING)), strict=True))
        order = sorted(
            axes,
            key=lambda name: ranks.get(name, len(ranks)),
        )
        fixed: Values = {}
        searched: dict[str, Axis] = {}
        for name in order:
            axis = axes[name]
            # One value tells no trial from another.
            if isinstance(axis, Choices) and axis.count == 1 and name not in listed:
                (fixed[name],) = axis.values
            else:
                searched[name] = axis
        settings = with_values(base, spelled_values(fixed))
        _, searched = checked_axes(settings, searched)
        return cls(settings, searched)

    @property
    def varied(self) -> list[str]:
        """The settings that have more than one value."""
        return [name for name, axis in self.axes.items() if axis.count > 1]

    def config(self, values: Mapping[str, Any]) -> TrainConfig:
        """The settings of a trial.

        Raises:
            UsageError: a value that the setting cannot have, or settings that contradict.
        """
        return with_values(self.base, spelled_values(values))

    def chosen(self, choose: Callable[[str, Axis], Any]) -> Values:
        """The values of one trial: `choose` is asked for those that it reads alone."""
        values: Values = {}
        unread = self._unread(values)
        for name, axis in self.axes.items():
            if name not in unread:
                values[name] = choose(name, axis)
                if name in _DECIDING:
                    unread = self._unread(values)
        # A part of a plugin may decide by another setting what it reads.
        unread = self._unread(values)
        for name in unread & values.keys():
            del values[name]
        return values

    # Once: it takes a second of a large space, and nothing of it can change.
    @functools.cached_property
    def combinations(self) -> list[Values] | None:
        """Every trial that there can be, none twice; None where there are too many to list."""
        counts = [axis.count for axis in self.axes.values()]
        if math.prod(counts) > MANY:
            return None
        # By their identities: of equal trials the first stays.
        trials: dict[str, Values] = {}
        columns = map(_listed, self.axes.values())
        for row in itertools.product(*columns):
            given = dict(zip(self.axes, row, strict=True))
            values = self.chosen(lambda name, _axis, given=given: given[name])
            trials.setdefault(identity(values), values)
        return list(trials.values())

    def _unread(self, values: Mapping[str, Any]) -> set[str]:
        """Settings that a head of these values does not read."""
        graph = _replaced(self.base.graph, values)
        pooler = _replaced(self.base.pooler, values)
        return set(unread_options(graph, pooler))


def _replaced(settings: Part, values: Mapping[str, Any]) -> Part:
    """A group of settings with those of the values that are its own."""
    own: Values = {}
    # Of both groups together: each takes what it has a field for.
    for name in settings.names():
        if name in values:
            own[name] = values[name]
    return dataclasses.replace(settings, **spelled_values(own))


def identity(values: Mapping[str, Any]) -> str:
    """A text that is equal for equal values, in whatever order."""
    return json.dumps(values, sort_keys=True)


def _listed(axis: Axis) -> tuple[Any, ...]:
    """All values of an axis that has finitely many."""
    if isinstance(axis, Choices):
        return axis.values
    return tuple(range(int(axis.low), int(axis.high) + 1))

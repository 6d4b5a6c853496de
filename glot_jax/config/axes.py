"""Axes of a search: the values that a setting may take, listed or as a range.

As light as the rest of `config`: what is mistyped ends before JAX is loaded.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from glot_jax.config.base import Config, flag, is_config, type_hints
from glot_jax.config.flat import with_values
from glot_jax.errors import UsageError

Settings = TypeVar("Settings", bound=Config)


@dataclasses.dataclass(frozen=True)
class Choices:
    """One value of several."""

    values: tuple[Any, ...]
    """JSON values; a setting that is a list itself has lists here."""

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.values)

    def to_json(self) -> object:
        """As it stands in a sweep's settings.json."""
        return list(self.values)

    def __str__(self) -> str:
        """As it is typed."""
        return " ".join(map(str, self.values))


@dataclasses.dataclass(frozen=True)
class Range:
    """Any number from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    """Drawn uniformly in the logarithm: as often between .001 and .01 as between .01 and .1."""

    @property
    def whole(self) -> bool:
        """Whether it is of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def count(self) -> float:
        """How many values there are; infinitely many where they are not whole."""
        if not self.whole:
            return math.inf
        return self.high - self.low + 1

    def to_json(self) -> object:
        """As it stands in a sweep's settings.json."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """As it is typed."""
        text = f"{self.low}:{self.high}"
        if self.log:
            text += ":log"
        return text


Axis = Choices | Range


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """The axis that some words or values give.

    Args:
        name: of the setting, for errors.
        values: values, or one text LOW:HIGH or LOW:HIGH:log.

    Raises:
        UsageError: no value, one of them twice, a range beside others, or one that is none.
    """
    if not values:
        raise UsageError(
            rule="a searched setting must have a value",
            got=f"{flag(name)} without one",
            fix="Leave it out, or give it one.",
        )
    ranges = []
    for value in values:
        # No name of a part, and no number, has a colon.
        if isinstance(value, str) and ":" in value:
            ranges.append(value)
    if ranges and len(values) > 1:
        raise UsageError(
            rule=f"{flag(name)} must have values, or one range",
            got=" ".join(map(str, values)),
            fix=f"Give for example {flag(name)} {ranges[0]} alone.",
        )
    if ranges:
        return _range(name, ranges[0])
    # By their texts: lists have no hash.
    if len(set(map(repr, values))) < len(values):
        raise UsageError(
            rule=f"{flag(name)} must have values that differ",
            got=" ".join(map(str, values)),
            fix="Drop the repeats.",
        )
    return Choices(tuple(values))


def _range(name: str, text: str) -> Range:
    low, high, *scale = text.split(":")
    try:
        bounds = [_number(low), _number(high)]
    except ValueError:
        bounds = []
    log = scale == ["log"]
    good = bool(bounds) and (log or not scale)
    if good:
        first, last = bounds
        good = math.isfinite(first) and first < last < math.inf
        # A logarithm has no zero.
        if log:
            good = good and first > 0
    if not good:
        raise UsageError(
            rule=f"a range of {flag(name)} must be LOW:HIGH or LOW:HIGH:log, with LOW below HIGH"
            " and above 0 where there is a logarithm",
            got=repr(text),
            fix=f"Give for example {flag(name)} 1e-4:1e-2:log.",
        )
    return Range(bounds[0], bounds[1], log)


def _number(text: str) -> float:
    try:
        # Of whole numbers a range is one of whole numbers: 1:4 has four of them.
        return int(text)
    except ValueError:
        return float(text)


def checked_axes(
    base: Settings, axes: Mapping[str, Axis]
) -> tuple[list[Settings], dict[str, Axis]]:
    """Settings with each value at least once, and the axes as the settings have their numbers.

    One value varies, the others are the first: a large space is not walked through. Of a range the
    ends are tried.

    Args:
        base: every other setting.
        axes: name of a setting -> its values; a projection_dim of 0 is none.

    Raises:
        UsageError: an unknown setting, a value that it cannot have, or settings that contradict.
    """
    typed: dict[str, Axis] = {}
    tried: dict[str, tuple[Any, ...]] = {}
    first: dict[str, Any] = {}
    for name, axis in axes.items():
        typed[name] = _typed(base, name, axis)
        tried[name] = _tried(typed[name])
        first[name] = tried[name][0]
    configs = [with_values(base, spelled_values(first))]
    for name, values in tried.items():
        for value in values[1:]:
            values_of_trial = {**first, name: value}
            configs.append(with_values(base, spelled_values(values_of_trial)))
    return configs, typed


def spelled_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as settings have them."""
    spelled = dict(values)
    # A search spells "no projection" as 0, so that it is one of the values.
    if spelled.get("projection_dim") == 0:
        spelled["projection_dim"] = None
    return spelled


def _tried(axis: Axis) -> tuple[Any, ...]:
    if isinstance(axis, Choices):
        return axis.values
    # What both ends may be, all between them may be.
    return (axis.low, axis.high)


def _typed(base: Config, name: str, axis: Axis) -> Axis:
    # 0:1 is typed for a threshold between 0 and 1, which are two whole numbers of a width.
    if isinstance(axis, Range) and _takes_fractions(type(base), name):
        return Range(
            float(axis.low),
            float(axis.high),
            axis.log,
        )
    return axis


def _takes_fractions(settings: type[Config], name: str) -> bool:
    hints = type_hints(settings)
    for field, hint in hints.items():
        if is_config(hint) and _takes_fractions(hint, name):
            return True
        if field != name:
            continue
        # Of a setting that may be none, one of the two.
        if hint is float or float in typing.get_args(hint):
            return True
    return False


TABLE_6: Mapping[str, Choices] = {
    "lr": Choices((1e-3, 2e-4, 2e-5)),
    "weight_decay": Choices((0.0, 1e-5, 5e-5)),
    "num_layers": Choices((2, 4)),
    "hidden_dim": Choices((64, 128, 256)),
    "jk": Choices(("cat", "max", "mean", "none")),
    "projection_dim": Choices((128, 256, 512)),
    "tau": Choices((0.1, 0.3, 0.6)),
}
"""The paper's search (Table 6), value by value."""

"""Dataclasses as plain JSON and back, and what differs between two of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from glot_jax.errors import UsageError

Value = TypeVar("Value")
Json = Any
"""What JSON holds: None, a truth value, a number, a text, a list or an object."""

_ACCEPTED: dict[object, tuple[type, ...]] = {
    int: (int,),
    # JSON writes 1.0 and 1 alike in some hands: a whole number is a float as well.
    float: (int, float),
    str: (str,),
    bool: (bool,),
    Path: (str,),
}


def to_json(config: object) -> dict[str, Any]:
    """The dataclass as nested plain JSON values; paths become strings, tuples lists."""
    return cast("dict[str, Any]", _plain(config))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def fields(config: object) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a dataclass or of an instance of one."""
    return dataclasses.fields(cast("Any", config))


def from_json(cls: type[Value], values: Mapping[str, Any]) -> Value:
    """Rebuild a dataclass written by `to_json`.

    Raises:
        UsageError: Not an object, an unknown field (the error lists the fields there are), a
            missing one, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise UsageError(
            rule=f"a {cls.__name__} must be a JSON object",
            got=repr(values),
            fix="Compare the file with the config.json of a run: it may be cut or edited.",
        )
    hints = typing.get_type_hints(cls)
    by_name = {field.name: field for field in fields(cls)}
    for name in values:
        if name not in by_name:
            raise UsageError(
                rule=f"unknown field of {cls.__name__}",
                got=repr(name),
                fix=f"Known: {', '.join(by_name)}.",
            )
    for name, field in by_name.items():
        if name not in values and not _has_default(field):
            raise UsageError(
                rule=f"a {cls.__name__} must have a field {name}",
                got="none",
                fix=f'Add it to the JSON object: "{name}": ...',
            )
    return cls(**{name: _revive(name, hints[name], value) for name, value in values.items()})


def _has_default(field: dataclasses.Field[Any]) -> bool:
    if field.default is not dataclasses.MISSING:
        return True
    return field.default_factory is not dataclasses.MISSING


def _revive(name: str, hint: object, value: Json) -> object:
    """The value as its type hint says, checked."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _revive(name, arms[0], value)
    if dataclasses.is_dataclass(hint):
        return from_json(cast("type", hint), value)
    if hint in _ACCEPTED:
        return _revive_plain(name, cast("type", hint), value)
    if typing.get_origin(hint) is tuple:
        return _revive_tuple(name, typing.get_args(hint), value)
    return value


def _revive_plain(name: str, hint: type, value: object) -> object:
    fits = isinstance(value, _ACCEPTED[hint])
    # bool is a subclass of int: `"epochs": true` would pass for 1.
    if isinstance(value, bool) and hint is not bool:
        fits = False
    if not fits:
        raise UsageError(
            rule=f"{name} must be of type {hint.__name__}",
            got=repr(value),
            fix=f"Write it as JSON writes {_SPELLINGS[hint]}.",
        )
    return Path(str(value)) if hint is Path else value


_SPELLINGS: dict[object, str] = {
    int: "a whole number: 3",
    float: "a number: 0.5",
    str: 'a text: "glot"',
    bool: "a truth value: true or false",
    Path: 'a path: "stores/cola"',
}


def _revive_tuple(name: str, hints: tuple[Any, ...], values: object) -> tuple[object, ...]:
    if not isinstance(values, (list, tuple)):
        raise UsageError(
            rule=f"{name} must be a list",
            got=repr(values),
            fix="Put the values into brackets: [1, 2].",
        )
    if hints[-1] is ...:
        hints = hints[:1] * len(values)
    if len(hints) != len(values):
        raise UsageError(
            rule=f"{name} must be a list of {len(hints)}",
            got=repr(values),
            fix=f"Give {len(hints)} values.",
        )
    return tuple(_revive(name, hint, value) for hint, value in zip(hints, values, strict=True))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The leaves in which two nested JSON objects differ, each as `name: old -> new`."""
    changes: list[str] = []
    for name in sorted({*old, *new}):
        before = old.get(name)
        after = new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            changes.append(f"{prefix}{name}: {before!r} -> {after!r}")
    return changes

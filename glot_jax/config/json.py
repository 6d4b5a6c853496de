"""Dataclasses as plain JSON and back, and what differs between two of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from glot_jax.config.location import StoreUrl, is_location, parse_location
from glot_jax.config.own_options import OwnOptions
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
    if isinstance(value, (Path, StoreUrl)):
        return str(value)
    if dataclasses.is_dataclass(value):
        # Not `dataclasses.asdict`: it would leave paths and tuples, which JSON does not have.
        values: dict[str, object] = {}
        for field in fields(value):
            item = getattr(value, field.name)
            # Runs without plugins keep the bytes of versions that know nothing of their options.
            if isinstance(item, OwnOptions) and not item:
                continue
            # Likewise of an option that came later.
            if field.metadata.get("unwritten") and item == field.default:
                continue
            values[field.name] = _plain(item)
        return values
    if isinstance(value, OwnOptions):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def fields(config: object) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a dataclass or of an instance of one."""
    # A type checker wants more than `is_dataclass` tells it.
    return dataclasses.fields(cast("Any", config))


def from_json(cls: type[Value], values: Mapping[str, Any]) -> Value:
    """Rebuild a dataclass written by `to_json`.

    Raises:
        UsageError: Not an object, an unknown field (the error lists the fields there are), a
            missing one, or a value of another type.
    """
    # A mapping by its annotation, but the values of a file may be anything.
    if not isinstance(values, Mapping):
        raise UsageError(
            rule=f"a {cls.__name__} must be a JSON object",
            got=repr(values),
            fix="Compare the file with the config.json of a run: it may be cut or edited.",
        )
    _require_fields(cls, values)
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        arguments[name] = _revive(name, hints[name], value)
    for field in fields(cls):
        # Of a file that is older than the field.
        absent = field.metadata.get("absent")
        if absent is not None:
            arguments.setdefault(field.name, absent)
    # Through the constructor: `Config` then checks what it holds, as on the command line.
    return cls(**arguments)


def typed_value(cls: type, name: str, value: Json) -> object:
    """A JSON value as the field of a dataclass holds it: a string as a path, a list as a tuple.

    Raises:
        UsageError: A value of another type.
    """
    return _revive(name, typing.get_type_hints(cls)[name], value)


def _require_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Require the names of a dataclass's fields: no others, and all that have no default."""
    by_name = {field.name: field for field in fields(cls)}
    for name in values:
        # Not ignored: a misspelt setting would silently be the default.
        if name not in by_name:
            raise UsageError(
                rule=f"unknown field of {cls.__name__}",
                got=repr(name),
                fix=f"Known: {', '.join(by_name)}.",
            )
    for name, field in by_name.items():
        # Those with a default may be absent: the file may be older than the field.
        if name not in values and not _has_default(field):
            raise UsageError(
                rule=f"a {cls.__name__} must have a field {name}",
                got="none",
                fix=f'Add it to the JSON object: "{name}": ...',
            )


def _has_default(field: dataclasses.Field[Any]) -> bool:
    if field.default is not dataclasses.MISSING:
        return True
    return field.default_factory is not dataclasses.MISSING


def _revive(name: str, hint: object, value: Json) -> object:
    """The value as its type hint says, checked."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        if is_location(hint) and isinstance(value, str):
            return parse_location(value)
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        # No field has two types beside None: JSON would not tell them apart.
        return _revive(name, arms[0], value)
    if hint is OwnOptions:
        return OwnOptions(value)
    if dataclasses.is_dataclass(hint):
        return from_json(cast("type", hint), value)
    if hint in _ACCEPTED:
        return _revive_plain(name, cast("type", hint), value)
    if typing.get_origin(hint) is tuple:
        return _revive_tuple(name, typing.get_args(hint), value)
    # A Literal, which the settings check themselves.
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
    if hint is Path:
        return Path(str(value))
    return value


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
    # tuple[int, ...]: any number of values of one type.
    if hints[-1] is ...:
        hints = hints[:1] * len(values)
    if len(hints) != len(values):
        raise UsageError(
            rule=f"{name} must be a list of {len(hints)}",
            got=repr(values),
            fix=f"Give {len(hints)} values.",
        )
    revived: list[object] = []
    for hint, value in zip(hints, values, strict=True):
        revived.append(_revive(name, hint, value))
    return tuple(revived)


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",
) -> list[str]:
    """The leaves in which two nested JSON objects differ, each as `name: old -> new`."""
    changes: list[str] = []
    for name in sorted({*old, *new}):
        # None where a side lacks the name: a field that was added since, and is None, is no change.
        before = old.get(name)
        after = new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            changes.append(f"{prefix}{name}: {before!r} -> {after!r}")
    return changes

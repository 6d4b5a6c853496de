"""Configs as plain JSON and back, and what differs between two of them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from glot_jax.errors import require

Value = TypeVar("Value")


def to_json(config: Any) -> dict[str, Any]:
    """The dataclass as nested plain JSON values; paths become strings, tuples lists."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
            }
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return plain(config)


def from_json(cls: type[Value], values: Mapping[str, Any]) -> Value:
    """Rebuild a dataclass written by `to_json`; an unknown key is an error that names the known
    ones.
    """
    require(
        isinstance(values, Mapping),
        f"a {cls.__name__} is a JSON object",
        repr(values),
        "Was the file written by hand?",
    )
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        require(
            name in fields,
            f"unknown field of {cls.__name__}",
            repr(name),
            f"Known: {', '.join(fields)}.",
        )
    for name, field in fields.items():
        missing = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        require(
            name in values or not missing, f"a {cls.__name__} has a field {name}", "none", "Add it."
        )
    return cls(**{name: _revive(name, hints[name], value) for name, value in values.items()})


def _revive(name: str, hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return (
            None
            if value is None
            else _revive(
                name, next(arm for arm in typing.get_args(hint) if arm is not type(None)), value
            )
        )
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if hint in (int, float, str, bool, Path):
        accepted = {float: (int, float), Path: (str,)}.get(hint, (hint,))
        fits = isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
        require(fits, f"{name} is of type {hint.__name__}", repr(value), "Correct it.")
        return Path(str(value)) if hint is Path else value
    if typing.get_origin(hint) is tuple:
        require(isinstance(value, (list, tuple)), f"{name} is a list", repr(value), "Correct it.")
        kinds = typing.get_args(hint)
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        require(
            len(kinds) == len(value),
            f"{name} is a list of {len(kinds)}",
            repr(value),
            "Correct it.",
        )
        return tuple(_revive(name, kind, item) for kind, item in zip(kinds, value, strict=True))
    return value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Field by field, the leaves in which two nested JSON objects differ: `name: old -> new`."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name}: {before!r} -> {after!r}")
    return found

"""Settings from names and values that stand side by side, as flags do on the command line."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

from glot_jax.config.base import Config, Decides, decides, is_config, is_plain, type_hints
from glot_jax.config.json import from_json, to_json, typed_value
from glot_jax.config.location import StoreUrl
from glot_jax.errors import UsageError


@runtime_checkable
class HasItem(Protocol):
    """A number of NumPy, which is not imported here."""

    def item(self) -> object:
        """Python's own number."""
        ...


Settings = TypeVar("Settings", bound=Config)


def with_values(config: Settings, values: Mapping[str, object]) -> Settings:
    """The settings of training with other values, by the names that flags have.

    Raises:
        UsageError: a name or a value that settings do not have, or settings that contradict.
    """
    # Through JSON, as a config.json is read: its checks of types are those of a file's values too.
    nested = to_json(config)
    homes = _homes(config)
    for name, value in values.items():
        if name not in homes:
            raise UsageError(
                rule="what varies must be settings of train.py",
                got=name,
                fix=f"There are {', '.join(sorted(homes))}.",
            )
        group = homes[name]
        values_of_group = nested if group is None else nested[group]
        values_of_group[name] = to_json(value) if isinstance(value, tuple) else value
    return from_json(type(config), json.loads(json.dumps(nested, default=str)))


def _homes(config: Config) -> dict[str, str | None]:
    """Name of a setting -> the group that it is in; None for those of TrainConfig itself."""
    # Where runs lie and which seed they have is not for an axis to say.
    homes: dict[str, str | None] = {
        name: None for name in config.names() if name not in ("store", "out", "seed", "own")
    }
    for field in dataclasses.fields(config):
        inner = getattr(config, field.name)
        if isinstance(inner, Config):
            homes |= {name: field.name for name in inner.names() if name != "own"}
    return homes


def from_flat(
    cls: type[Settings],
    values: Mapping[str, object],
    command: str,
    base: Settings | None = None,
) -> Settings:
    """Settings from the flags of a command by their names: hidden_dim=64 for `--hidden-dim 64`.

    A name belongs to whichever group of the settings has it. Paths may be strings, and tuples any
    sequence.

    Args:
        cls: class of the settings.
        values: name -> value.
        command: for messages: "train.py".
        base: settings that are kept where nothing is given. Default: those of the class.

    Raises:
        UsageError: a name that no group has, a value that is missing, or one that breaks a rule.
    """
    names = flat_names(cls)
    for name in values:
        if name not in names:
            # A misspelt setting would silently be the default.
            near = difflib.get_close_matches(name, names, n=1)
            question = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                rule=f"settings must be flags of {command}, without the dashes",
                got=name,
                fix=f"{question}See {command} --help; --hidden-dim is hidden_dim.",
            )
    return _build(cls, values, base)


def flat_names(cls: type[Config]) -> tuple[str, ...]:
    """Names of all fields that are flags, those of the groups too."""
    names: list[str] = []
    for name, hint in type_hints(cls).items():
        # A group has no flag of its own.
        if is_config(hint):
            names += flat_names(hint)
        elif is_plain(hint) and name in _field_names(cls):
            names.append(name)
    return tuple(names)


def changed_values(config: Settings, base: Settings, part: Decides) -> dict[str, object]:
    """What `from_flat` makes settings of again: the fields that differ from those of `base`.

    Args:
        config: settings.
        base: others of the same class.
        part: only fields that decide any of it are looked at. Options of plugins are left out,
            which have no names of their own among flags.

    Returns:
        Name -> JSON value.
    """
    hints = type_hints(type(config))
    values: dict[str, object] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        other = getattr(base, field.name)
        if isinstance(value, Config):
            values |= changed_values(value, other, part)
            continue
        is_asked = is_plain(hints[field.name]) and decides(field) & part
        if is_asked and value != other:
            values[field.name] = to_json(value)
    return values


def _field_names(cls: type[Config]) -> set[str]:
    # Annotations of the class itself, ClassVar, are hints and no fields.
    return {field.name for field in dataclasses.fields(cls)}


def _build(cls: type[Settings], values: Mapping[str, object], base: Settings | None) -> Settings:
    hints = type_hints(cls)
    arguments: dict[str, object] = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kept = None if base is None else getattr(base, field.name)
        if is_config(hint):
            arguments[field.name] = _build(hint, values, kept)
        elif field.name in values and is_plain(hint):
            plain = _plain(values[field.name])
            arguments[field.name] = typed_value(cls, field.name, plain)
        # A required field of a base has a value as well.
        elif base is not None:
            arguments[field.name] = kept
        elif _is_required(field):
            raise UsageError(
                rule=f"{field.name} must be given",
                got="none",
                fix=f"Give {field.name}=...",
            )
    return cls(**arguments)


def _is_required(field: dataclasses.Field[object]) -> bool:
    has_factory = field.default_factory is not dataclasses.MISSING
    return field.default is dataclasses.MISSING and not has_factory


def _plain(value: object) -> object:
    """Python's own value of what stands for one: a path, a number of NumPy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, StoreUrl):
        return str(value)
    # Searches draw their values from arrays.
    if isinstance(value, HasItem) and hasattr(value, "dtype"):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

"""The base of all settings: a frozen dataclass whose fields say what they accept and decide.

    @dataclasses.dataclass(frozen=True)
    class TrainConfig(Config):
        batch_size: int = option(32, whole(1), decides=ALL)

Neither numpy nor jax nor torch is imported here, so that a typing mistake on the command line costs
milliseconds.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from glot_jax.config.checks import Check, each, one_of
from glot_jax.config.json import from_json
from glot_jax.config.location import no_lost_url
from glot_jax.config.own_options import OwnOptions
from glot_jax.errors import UsageError

Value = TypeVar("Value")


class Decides(enum.Flag):
    """What changes when a field changes; a field decides any number of these."""

    NOTHING = 0
    NUMBERS = enum.auto()
    """The numbers of a run: a resumed run must have the same value."""
    PROGRAM = enum.auto()
    """The compiled program: runs that differ by nothing of it share their executables."""
    VARIANT = enum.auto()
    """Which variant a run is in a report: runs of one variant differ by their seed alone."""
    IDENTITY = enum.auto()
    """The identity of an exported head, which must not hold paths of this machine."""
    ALL = NUMBERS | PROGRAM | VARIANT | IDENTITY


# Short names, because every field of a training's settings says what it decides.
NOTHING = Decides.NOTHING
NUMBERS = Decides.NUMBERS
PROGRAM = Decides.PROGRAM
VARIANT = Decides.VARIANT
IDENTITY = Decides.IDENTITY
ALL = Decides.ALL


def flag(name: str) -> str:
    """The command-line spelling of a field: `hidden_dim` -> `--hidden-dim`."""
    return "--" + name.replace("_", "-")


def about(
    *checks: Check,
    decides: Decides | None = None,
    task: str | None = None,
    positional: bool = False,
    unwritten: bool = False,
    absent: object = None,
    example: object = None,
) -> dict[str, object]:
    """Metadata of a field, for `dataclasses.field(metadata=about(...))`.

    Args:
        *checks: Each is called with a value that is not None and returns the rule that it breaks.
        decides: What the field decides; every field of a training's settings says so.
        task: The only kind of task that reads the field; None where all do.
        positional: Whether the command line takes the value without a flag.
        unwritten: Whether JSON leaves the field out where it has its default: what does not use a
            later option keeps the bytes of versions without it.
        absent: The value of JSON without the field, where it is not the default: what versions
            without the field did.
        example: A value for error messages, where the default is none.
    """
    return {
        "checks": checks,
        "decides": decides,
        "task": task,
        "positional": positional,
        "unwritten": unwritten,
        "absent": absent,
        "example": example,
    }


def option(
    default: Value,
    *checks: Check,
    decides: Decides | None = None,
    task: str | None = None,
    unwritten: bool = False,
    absent: object = None,
    example: object = None,
) -> Value:
    """A field with a default and the metadata of `about`."""
    metadata = about(
        *checks,
        decides=decides,
        task=task,
        unwritten=unwritten,
        absent=absent,
        example=example,
    )
    # A Field while the class is made, and the value ever after: type checkers are told the value,
    # as the stubs of `dataclasses.field` tell them.
    field = dataclasses.field(default=default, metadata=metadata)
    return cast("Value", field)


def setting(
    default: Value,
    *checks: Check,
    decides: Decides = ALL,
    task: str | None = None,
    unwritten: bool = False,
    absent: object = None,
    example: object = None,
) -> Value:
    """A field of a training's settings: it decides everything unless it says what it does not.

    That is the safe side. A field that says too much costs a compilation or refuses to resume; one
    that says too little resumes a run with other numbers.
    """
    return option(
        default,
        *checks,
        decides=decides,
        task=task,
        unwritten=unwritten,
        absent=absent,
        example=example,
    )


ARGUMENT = about(positional=True)
"""Metadata of a value that must be given and needs no flag: `glot evaluate RUN`."""


# Frozen: settings are shared by the rooms of a run, and what was checked must stay as it was.
@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that are checked where they are born: on the command line, in Python and in JSON.

    A subclass is a frozen dataclass as well. Fields of type Literal hold one of its values, other
    fields pass the checks of their metadata, and `require_consistent` holds between them.
    """

    takes_plugins: ClassVar[bool] = False
    """Whether its command trains a head or loads one, which may have parts of a plugin."""

    def __post_init__(self) -> None:
        """Check every field, then what holds between them.

        Raises:
            UsageError: The first rule that is broken, with the flag and a value that would do.
        """
        # `from __future__ import annotations` leaves texts in `field.type`.
        hints = type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _check_field(field, hints[field.name], value)
        # Last: it may take for granted that each value by itself is a good one.
        self.require_consistent()

    def require_consistent(self) -> None:
        """Check what holds between several fields; a subclass overrides it.

        Raises:
            UsageError: Two settings that do not go together.
        """

    @classmethod
    def from_own(cls, own: OwnOptions) -> Self:
        """These settings, from the options that came with a part.

        Args:
            own: Values; without one the default stands. It may hold options of other parts too.

        Raises:
            UsageError: A value of another type, or one that breaks a rule.
        """
        names = cls.names()
        return from_json(cls, {name: value for name, value in own.items() if name in names})

    @classmethod
    def names(cls, part: Decides | None = None) -> tuple[str, ...]:
        """Names of the fields that decide any of `part`; None: of all fields.

        Fields that hold settings of their own are left out.
        """
        hints = type_hints(cls)
        names: list[str] = []
        for field in dataclasses.fields(cls):
            # Nested settings are not a value: their fields are asked by their own class.
            if is_config(hints[field.name]):
                continue
            if part is None or decides(field) & part:
                names.append(field.name)
        return tuple(names)

    @classmethod
    def names_for_other_tasks(cls, kind: str) -> tuple[str, ...]:
        """Names of the fields that a task of this kind does not read."""
        fields = dataclasses.fields(cls)
        # A `pair-multilabel` is a `pair` as well.
        own = (None, kind, kind.partition("-")[0])
        others = [field for field in fields if field.metadata.get("task") not in own]
        return tuple(field.name for field in others)

    @classmethod
    def names_only_for(cls, kind: str) -> tuple[str, ...]:
        """Names of the fields that no other kind of task reads."""
        fields = dataclasses.fields(cls)
        own = [field for field in fields if field.metadata.get("task") == kind]
        return tuple(field.name for field in own)

    def part(self, part: Decides) -> dict[str, Any]:
        """The fields that decide any of `part`, nested as they are here: name -> value."""
        # `vars`, not `asdict`, which would turn nested settings into dicts without a class.
        return part_of(type(self), vars(self), part)


def part_of(cls: type[Config], values: Mapping[str, Any], part: Decides) -> dict[str, Any]:
    """The fields of `values` that decide any of `part`.

    Args:
        cls: The class of the settings.
        values: Its fields, or what `config.json.to_json` made of them. Names that `cls` does not
            have are kept: another version may have written them.
        part: What is asked about.
    """
    hints = type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    kept: dict[str, Any] = {}
    for name, value in values.items():
        # Of another version: it must show as a difference, not vanish.
        if name not in fields:
            kept[name] = value
        elif is_config(hints[name]):
            # Nested settings, or the JSON that was made of them.
            if isinstance(value, Config):
                value = vars(value)
            kept[name] = part_of(hints[name], value, part)
        elif decides(fields[name]) & part:
            kept[name] = value
    return kept


def decides(field: dataclasses.Field[Any]) -> Decides:
    """What a field decides.

    Raises:
        KeyError: The field does not say.
    """
    # An error and no default: a field that nobody has thought about would resume another run.
    value = field.metadata["decides"]
    if value is None:
        raise KeyError(f"the field {field.name} does not say what it decides")
    return value


def is_config(hint: object) -> bool:
    """Whether a type hint is a class of settings."""
    return isinstance(hint, type) and issubclass(hint, Config)


def is_plain(hint: object) -> bool:
    """Whether a field of this type is one flag of the command line."""
    return not is_config(hint) and hint is not OwnOptions


@functools.cache
def type_hints(cls: type[Config]) -> Mapping[str, Any]:
    """The annotations of a class of settings as types, resolved once a class."""
    return typing.get_type_hints(cls)


def spelled(value: object) -> str:
    """A value as it is typed on the command line: a tuple is several words."""
    # A caller from Python may have given a list.
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return str(value)


def _check_field(field: dataclasses.Field[Any], hint: object, value: object) -> None:
    # A field without `option` has no metadata: `backbone: str = "minilm"`.
    checks: tuple[Check, ...] = field.metadata.get("checks", ())
    if typing.get_origin(hint) is Literal:
        # Python does not check annotations: what the command line refuses, Python must too.
        choices = typing.get_args(hint)
        checks = (one_of(*choices), *checks)
    # Of a URL a `Path` has lost a slash: it would be a folder with an odd name.
    if isinstance(value, Path):
        checks = (no_lost_url, *checks)
    elif isinstance(value, tuple):
        checks = (each(no_lost_url), *checks)
    # None stands for "not given" wherever a field allows it; tyro refuses it elsewhere.
    if value is None and not _is_required_value(hint):
        return
    for check in checks:
        rule = check(value)
        if rule is not None:
            # The first alone: a value of the wrong kind breaks the later ones as well.
            raise UsageError(
                rule=f"{flag(field.name)} {rule}",
                got=_received(value),
                fix=_example(field),
            )


def _is_required_value(hint: object) -> bool:
    """Whether None is not among the values that a hint allows."""
    return type(None) not in typing.get_args(hint)


def _received(value: object) -> str:
    # In quotes, so that an empty word and blanks are seen.
    if isinstance(value, str):
        return repr(value)
    # An empty tuple is spelled as nothing at all.
    return spelled(value) or "none"


def _example(field: dataclasses.Field[Any]) -> str:
    example = field.metadata.get("example")
    # A default is known to pass the checks.
    if example is None and field.default is not dataclasses.MISSING:
        example = field.default
    # An empty word is no example: `Give for example --metric .`
    if example is None or not spelled(example):
        return f"Give another {flag(field.name)}."
    return f"Give for example {flag(field.name)} {spelled(example)}."

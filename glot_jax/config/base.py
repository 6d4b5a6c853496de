"""Checks that the settings of every command share."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, Literal

from glot_jax.errors import UsageError, require


def flag(name: str) -> str:
    """The command-line spelling of a field: `hidden_dim` -> `--hidden-dim`."""
    return "--" + name.replace("_", "-")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def require_choices(config: Any) -> None:
    """Literal fields hold one of their values: tyro checks the command line, this checks Python and
    JSON.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        if typing.get_origin(hint) is Literal and getattr(
            config, field.name
        ) not in typing.get_args(hint):
            choices = ", ".join(map(str, typing.get_args(hint)))
            raise UsageError(
                f"{flag(field.name)} takes one of: {choices}",
                repr(getattr(config, field.name)),
                "Choose one of them.",
            )


def require_at_least(config: Any, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(
            value is None or (is_number(value) and value >= minimum),
            f"{flag(name)} must be a finite number, at least {minimum}",
            value,
            f"Give {flag(name)} {minimum} or more.",
        )


def require_divisor(heads: int, width: int, noun: str) -> None:
    """Heads share a width equally, or a UsageError lists the numbers that do."""
    divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
    require(
        width % heads == 0,
        f"--heads must divide {noun}",
        f"{heads} heads for {width}",
        f"Divisors: {divisors}.",
    )

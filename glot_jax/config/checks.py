"""Checks of a single value, given to a field as `option(32, whole(1))`.

A check is called with the value and returns the rule that the value breaks ("must be at least 1"),
or None. The base class of all settings turns it into an error that names the flag.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sized
from typing import Any, TypeGuard

from glot_jax.errors import UsageError

# Any: a check is written for the type of its field, which only the field's annotation knows.
Check = Callable[[Any], str | None]


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite number; True and False are not numbers."""
    # bool is a subclass of int: `epochs=True` would pass for 1.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # False for nan, which no comparison with a bound would refuse, and for integers of JSON that
    # no float can hold, of which `math.isfinite` makes an OverflowError.
    return abs(value) <= sys.float_info.max


def at_least(minimum: float) -> Check:
    """A finite number that is not below `minimum`."""

    def broken_rule(value: object) -> str | None:
        if not is_number(value):
            return "must be a finite number"
        if value < minimum:
            return f"must be at least {minimum}"
        return None

    return broken_rule


def whole(minimum: int) -> Check:
    """A whole number that is not below `minimum`."""

    def broken_rule(value: object) -> str | None:
        # 3.0 is none either: it would be an index or a shape later.
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        if value < minimum:
            return f"must be at least {minimum}"
        return None

    return broken_rule


def positive(value: object) -> str | None:
    """A finite number above 0."""
    if is_number(value) and value > 0:
        return None
    return "must be a positive number"


def between(low: float, high: float, noun: str = "a number") -> Check:
    """A number from `low` to `high`, both included; `noun` says what kind."""

    def broken_rule(value: object) -> str | None:
        if is_number(value) and low <= value <= high:
            return None
        return f"must be {noun} in [{low}, {high}]"

    return broken_rule


def share(value: object) -> str | None:
    """A share that leaves something: from 0 to below 1."""
    if is_number(value) and 0 <= value < 1:
        return None
    return "must be a share in [0, 1)"


def filled(values: Sized) -> str | None:
    """A tuple with at least one value."""
    if len(values) > 0:
        return None
    return "must have at least one value"


def written(value: str) -> str | None:
    """A text with at least one character."""
    if value:
        return None
    return "must have at least one character"


def distinct(values: tuple[object, ...]) -> str | None:
    """A tuple without repeats."""
    if len(set(values)) == len(values):
        return None
    return "must have values that differ from one another"


def each(check: Check) -> Check:
    """A tuple whose every value passes `check`."""

    def broken_rule(values: tuple[object, ...]) -> str | None:
        for value in values:
            rule = check(value)
            if rule is not None:
                # Rules about single values begin with these words; the flag stands before them.
                return rule.replace("must be", "must each be", 1)
        return None

    return broken_rule


def one_of(*choices: object) -> Check:
    """One of a few values."""

    def broken_rule(value: object) -> str | None:
        for choice in choices:
            # `1 in (True,)` is True, and 1.0 equals 1: compare the kinds as well.
            if value == choice and type(value) is type(choice):
                return None
        # An empty word stands for "not given" and cannot be typed.
        words = [str(choice) for choice in choices if choice != ""]
        return f"must be one of {', '.join(words)}"

    return broken_rule


def require_divisor(heads: int, width: int, noun: str) -> None:
    """Require that `heads` attention heads share a `width` equally.

    Raises:
        UsageError: they do not; it lists the numbers that do.
    """
    if width % heads == 0:
        return
    # All of them, few as they are: whoever reads them need not divide.
    divisors = [str(n) for n in range(1, width + 1) if width % n == 0]
    raise UsageError(
        rule=f"--heads must divide {noun}",
        got=f"{heads} heads for {width}",
        fix=f"Divisors: {', '.join(divisors)}.",
    )


def require_one_place(device: str, device_map: str) -> None:
    """Require that a backbone is spread or lies on a device that was named, not both.

    Raises:
        UsageError: both.
    """
    if device_map != "none" and device != "auto":
        raise UsageError(
            rule="--device-map chooses the devices of a backbone itself",
            got=f"--device-map {device_map} with --device {device}",
            fix="Leave one out; CUDA_VISIBLE_DEVICES says which GPUs may be used.",
        )

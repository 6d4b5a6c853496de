"""What a test knows of a value and the value's type leaves open: that it is there, its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, overload

Kind = TypeVar("Kind")
First = TypeVar("First")
Second = TypeVar("Second")
Third = TypeVar("Third")


def present(value: Kind | None) -> Kind:
    """The value, which is not None."""
    assert value is not None
    return value


def of_kind(value: object, kind: type[Kind]) -> Kind:
    """The value, which is of that kind."""
    assert isinstance(value, kind), f"expected {kind.__name__}; got {type(value).__name__}"
    return value


@overload
def of_kinds(values: Sequence[object], first: type[First], /) -> tuple[First]: ...


@overload
def of_kinds(
    values: Sequence[object], first: type[First], second: type[Second], /
) -> tuple[First, Second]: ...


@overload
def of_kinds(
    values: Sequence[object], first: type[First], second: type[Second], third: type[Third], /
) -> tuple[First, Second, Third]: ...


def of_kinds(values: Sequence[object], *kinds: type[object]) -> tuple[object, ...]:
    """The values, as many as there are kinds and each of its own."""
    assert len(values) == len(kinds)
    return tuple(of_kind(value, kind) for value, kind in zip(values, kinds, strict=True))

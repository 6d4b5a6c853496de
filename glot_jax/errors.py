"""Errors that the caller can put right, and the checks that raise them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


class UsageError(ValueError):
    """Something the caller can put right.

    Its text has three parts: the rule, the value received, the fix.
    """

    def __init__(self, rule: str, got: object, fix: str):
        self.rule, self.got, self.fix = rule, got, fix
        super().__init__(f"{rule}; got {got}. {fix}")


def lookup(table: Mapping[str, Value], name: str, noun: str) -> Value:
    """`table[name]`, or a UsageError that lists the names there are."""
    if name not in table:
        raise UsageError(f"unknown {noun}", repr(name), f"Known: {', '.join(sorted(table))}.")
    return table[name]


def require(condition: bool, rule: str, got: object, fix: str) -> None:
    """Raise UsageError unless `condition` holds."""
    if not condition:
        raise UsageError(rule, got, fix)

"""Errors that the caller can put right, and the checks that raise them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

EXTRAS: dict[str, tuple[str, ...]] = {
    "extract": ("torch", "transformers"),
    "export": ("sentence_transformers", "onnx", "onnxruntime", "onnxscript"),
    "mteb": ("mteb",),
    "sweep": ("optuna",),
    "viz": ("matplotlib",),
}
"""Extra of pyproject.toml -> the modules that its users import."""


class UsageError(ValueError):
    """Something the caller can put right.

    Its text has three parts: the rule, the value received, the fix.
    """

    def __init__(self, rule: str, got: object, fix: str):
        self.rule = rule
        self.got = got
        self.fix = fix
        super().__init__(f"{rule}; got {got}. {fix}")


def lookup(table: Mapping[str, Value], name: str, noun: str) -> Value:
    """The value of `name` in the table.

    Raises:
        UsageError: The table does not have it; the error lists the names that it has.
    """
    require_known(table, name, noun)
    return table[name]


def require_known(names: Iterable[str], name: str, noun: str) -> None:
    """Require that `name` is among the names.

    Raises:
        UsageError: It is not; the error lists the names.
    """
    if name not in names:
        raise UsageError(f"unknown {noun}", repr(name), f"Known: {', '.join(sorted(names))}.")


def require(condition: bool, rule: str, got: object, fix: str) -> None:
    """Raise UsageError unless `condition` holds."""
    if not condition:
        raise UsageError(rule, got, fix)


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Require that an extra of the package is installed, without importing it.

    Args:
        extra: A name of EXTRAS.
        purpose: What needs it, as the subject of a sentence: "a report".
        *modules: Those of its modules that are needed. Default: all of them.

    Raises:
        UsageError: A module is missing; the error names the command that installs it.
    """
    for module in modules or EXTRAS[extra]:
        if not _is_installed(module):
            raise missing_extra(extra, purpose, f"no module named {module!r}")


def missing_extra(extra: str, purpose: str, reason: object) -> UsageError:
    """The error that names the extra to install, for `raise ... from error`."""
    return UsageError(
        rule=f"{purpose} needs the extra '{extra}'",
        got=str(reason),
        fix=f"Install it: pip install 'glot-jax[{extra}]'.",
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # ValueError: a module that was put into sys.modules by hand and has no spec.
    except (ImportError, ValueError):
        return False

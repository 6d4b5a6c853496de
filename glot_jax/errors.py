"""Errors that the caller can put right, and the checks that raise them."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

Value = TypeVar("Value")

EXTRAS: dict[str, tuple[str, ...]] = {
    # datasets and zstandard belong to it too, but only some files and the Hub need them: whoever
    # reads those asks for them.
    "extract": ("torch", "transformers"),
    # transformers asks for accelerate where it reads such a file.
    "gguf": ("gguf", "accelerate"),
    "offload": ("accelerate",),
    "export": ("sentence_transformers", "onnx", "onnxruntime", "onnxscript", "flatbuffers"),
    "mteb": ("mteb",),
    "ray": ("ray",),
    "remote": ("obstore",),
    "serve": ("fastapi", "uvicorn", "batched", "prometheus_client"),
    "sweep": ("optuna",),
    "track": ("tensorboardX", "mlflow", "sqlalchemy", "alembic", "wandb"),
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

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, object, str]]:
        """Three arguments, where pickle would pass the one text: errors cross processes."""
        # As text: what was received may be anything, and need not pickle.
        return type(self), (self.rule, str(self.got), self.fix)


class HeldByAnotherError(UsageError):
    """The right to write is another process's, which lives or may live."""


# An ImportError as well: `try: import ... except ImportError` around our modules keeps its meaning.
class MissingExtraError(UsageError, ImportError):
    """A package of an extra is not installed."""


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
        MissingExtraError: A module is missing; the error names the command that installs it.
    """
    missing = [module for module in modules or EXTRAS[extra] if not _is_installed(module)]
    if missing:
        raise missing_extra(extra, purpose, ", ".join(missing))


def missing_extra(
    extra: str, purpose: str, modules: str, reason: object = None
) -> MissingExtraError:
    """The error that names the extra to install.

    Args:
        extra: A name of EXTRAS.
        purpose: What needs it, as the subject of a sentence.
        modules: What is missing.
        reason: What importing them said. Default: that they are not there.
    """
    return MissingExtraError(
        rule=f"{purpose} needs the package {modules}",
        got=f"no {modules}" if reason is None else reason,
        fix=f"Install the extra: pip install 'glot-jax[{extra}]'.",
    )


@contextlib.contextmanager
def extra_of(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import of a package of `extra` into the error that names the extra.

    Raises:
        MissingExtraError: The body could not import a module that is not ours. It names the extra
            that holds it, else `extra`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a mistake in the package, not in the installation.
        package = (error.name or "").partition(".")[0]
        if package == "glot_jax":
            raise
        # The block may need a package of another extra: that one is the one to install.
        for other, modules in EXTRAS.items():
            if package in modules:
                extra = other
        raise missing_extra(extra, purpose, package, error) from error


def _is_installed(module: str) -> bool:
    try:
        # Found, not imported: torch alone would take seconds.
        return importlib.util.find_spec(module) is not None
    # ValueError: a module that was put into sys.modules by hand and has no spec.
    except (ImportError, ValueError):
        return False

"""What a command of the command line is."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from glot_jax import plugins
from glot_jax.cli.parsing import parse, take_plugins
from glot_jax.config.base import Config


@dataclasses.dataclass(frozen=True)
class Command:
    """A function of settings, and how its settings are read."""

    run: Callable[[Any], int]
    """Does the work and returns the exit code. Its docstring's first line stands in `glot --help`.
    """
    settings: type[Config]
    """What `run` takes."""
    prog: str
    """The command as it is typed, for `--help` and errors."""
    # Config, not the settings' own class: one table holds the readers of all commands.
    read: Callable[[Sequence[str], str], Config] | None = None
    """Reads the settings from the words behind the command's name and from `prog`; None where
    every flag has one meaning, whatever the others are.
    """

    @property
    def summary(self) -> str:
        """One line about the command."""
        text = inspect.getdoc(self.run) or ""
        return text.partition("\n")[0]

    def __call__(self, arguments: Sequence[str]) -> int:
        """Read the settings and run the command; returns the exit code.

        Raises:
            UsageError: The settings, or what they name, break a rule; or there is no such plugin.
            SystemExit: A flag is unknown or has no such value, or `--help` was printed.
        """
        if self.settings.takes_plugins:
            # Before anything else is read: their parts are names and flags like all others.
            names, arguments = take_plugins(arguments, self.prog)
            plugins.load(names)
        if self.read is None:
            settings = parse(self.settings, arguments, self.prog)
        else:
            settings = self.read(arguments, self.prog)
        return self.run(settings)

"""A command: its settings are read, then it is run."""

from __future__ import annotations

import dataclasses

import pytest

from glot_jax.cli.command import Command
from glot_jax.config.base import Config, option
from glot_jax.config.checks import whole
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    """Count."""

    number: int = option(1, whole(0))
    """How far."""


def count(config: Settings) -> int:
    """Count to a number.

    And back.
    """
    return config.number


def test_a_command_reads_its_settings_and_returns_a_code():
    command = Command(count, Settings, "glot count")
    assert command([]) == 1
    assert command(["--number", "3"]) == 3
    assert command.summary == "Count to a number."
    with pytest.raises(UsageError, match="--number must be at least 0"):
        command(["--number", "-1"])


def test_a_reader_of_its_own_gets_the_words_and_the_name():
    heard = []

    def read(arguments, prog):
        heard.append((list(arguments), prog))
        return Settings(7)

    assert Command(count, Settings, "glot count", read)(["--other"]) == 7
    assert heard == [(["--other"], "glot count")]

"""What every benchmark has: settings from the command line, a toy size, and a file of results.

A benchmark is a dataclass of settings and a function that measures with them:

    @dataclasses.dataclass(frozen=True)
    class Encode(Benchmark):
        texts: int = 5000

        def smaller(self) -> Encode:
            return dataclasses.replace(self, texts=20)

    if __name__ == "__main__":
        run(Encode, main)
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import tyro
from machine import describe_machine

from glot_jax.errors import UsageError

RESULTS = Path(__file__).parent / "results"

Settings = TypeVar("Settings", bound="Benchmark")


class Mismatch(Exception):
    """Two sides of a comparison do not compute the same thing: their times cannot be compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Settings that all benchmarks share."""

    smoke: bool = False
    """Run once at toy size, into a temporary folder: shows that it works, measures nothing."""
    results: Path = RESULTS
    """Folder of the result files."""

    def smaller(self) -> Self:
        """The same at toy size."""
        return self

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write `RESULTS/NAME.json`, the machine beside the numbers, and say so."""
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"{name}.json"
        text = json.dumps({"machine": describe_machine(), **values}, indent=1)
        # Whole or as it was: some are written many times, by jobs that are stopped.
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_text(text + "\n")
        beside.replace(path)
        print(f"wrote {path}")


def json_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file."""
    # Not splitlines: it also ends a line at characters that JSON leaves as they are.
    return [json.loads(line) for line in path.read_bytes().rstrip(b"\n").split(b"\n")]


def run(kind: type[Settings], main: Callable[[Settings], None]) -> None:
    """Parse the command line and measure; wrong settings and a mismatch end in a line, exit 2."""
    settings = tyro.cli(kind, description=kind.__doc__)
    try:
        if not settings.smoke:
            main(settings)
            return
        with tempfile.TemporaryDirectory() as scratch:
            changes: dict[str, Any] = {}
            if settings.results == RESULTS:
                changes["results"] = Path(scratch) / "results"
            if hasattr(settings, "work"):
                changes["work"] = Path(scratch) / "work"
            main(dataclasses.replace(settings.smaller(), **changes))
    except (UsageError, Mismatch) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def require_equal(what: str, largest_difference: float, tolerance: float) -> None:
    """Mismatch if two sides of a comparison differ by more than `tolerance`, or by no number."""
    if not largest_difference <= tolerance:
        raise Mismatch(
            f"{what} must agree to {tolerance:g}; got a difference of {largest_difference:g}."
        )

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
import fcntl
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


@dataclasses.dataclass(frozen=True)
class KeptRows:
    """Rows of a result file that is written row by row, by processes that share it.

    A study that takes hours keeps what it has: a stopped one is started again and does the rest.
    """

    bench: Benchmark
    name: str
    """Of the file, without suffix."""
    settings: Mapping[str, Any]
    """What must be equal for rows to stand in one file; with others it is begun anew."""
    lock: Path
    """File that a process holds while it writes."""

    def read(self) -> dict[str, Any]:
        """Name -> row, of every row that is there."""
        path = self.bench.results / f"{self.name}.json"
        if not path.is_file():
            return {}
        kept = json.loads(path.read_text())
        # As JSON has them: a tuple is a list there.
        same = kept["settings"] == json.loads(json.dumps(self.settings))
        return kept["groups"] if same else {}

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Write a row beside those that are there."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = self.read() | {name: row}
            self.bench.write(self.name, {"settings": self.settings, "groups": rows})


def part_of(part: str) -> tuple[int, int]:
    """I and N of `--part I/N`."""
    number, _, parts = part.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and int(number) < int(parts)):
        raise UsageError("--part must be I/N with 0 <= I < N", part, "Give for example 0/2.")
    return int(number), int(parts)


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

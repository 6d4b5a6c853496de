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

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
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
    """What must be equal for rows to stand in one file; a file of others is not touched."""
    lock: Path
    """File that a process holds while it writes."""

    def read(self) -> dict[str, Any]:
        """Name -> row, of every row that is there.

        Raises:
            Mismatch: the file holds rows of other settings.
        """
        path = self.bench.results / f"{self.name}.json"
        if not path.is_file():
            return {}
        kept = json.loads(path.read_text())
        # As JSON has them: a tuple is a list there.
        own = json.loads(json.dumps(self.settings))
        if kept["settings"] != own:
            raise Mismatch(
                f"Rows of one file must have the same settings; {path} has {kept['settings']},"
                f" asked for are {own}. Move it away, or choose another --results."
            )
        return kept["groups"]

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Write a row beside those that are there."""
        with alone(self.lock):
            rows = self.read() | {name: row}
            self.bench.write(self.name, {"settings": self.settings, "groups": rows})


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process of this benchmark is in a block with the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits: the name of a folder whose runs must have the same settings."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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


def peak_bytes() -> int:
    """High-water mark of this process's resident memory, on Linux.

    Not getrusage's: a process begins there with the mark of the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def drawn_differences(
    score: Callable[[np.ndarray, np.ndarray], float],
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    *,
    resamples: int,
) -> np.ndarray:
    """Differences [resamples] of two mean scores, rows and seeds both drawn anew (seed 0).

    Args:
        score: (predictions [rows], labels [rows]) -> a metric.
        first: predictions [seeds, rows].
        second: those of the other method, of the same seeds on the same rows.
        labels: [rows].
        resamples: how often rows and seeds are drawn.
    """
    rng = np.random.default_rng(0)
    count, size = len(first), len(labels)
    drawn = np.empty(resamples)
    for number in range(resamples):
        rows = rng.integers(0, size, size)
        seeds = rng.integers(0, count, count)
        # A seed that is drawn three times is scored once.
        times = np.bincount(seeds, minlength=count)
        total = 0.0
        for seed in np.flatnonzero(times):
            own = score(first[seed, rows], labels[rows])
            total += times[seed] * (own - score(second[seed, rows], labels[rows]))
        drawn[number] = total / count
    return drawn


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

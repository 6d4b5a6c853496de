"""The files of a run folder: config.json, metrics.jsonl, timing.jsonl, summary.json, and the bar
people watch.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glot_jax.errors import UsageError
from glot_jax.files import locked, write_bytes
from glot_jax.moved import moved_name


def resume_hint(run: Path) -> str:
    """How an error of the disk tells the user to go on with a run."""
    return f"continue with --resume {run}"


@contextlib.contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold the right to write a run folder. The system gives it back when the process ends, however
    it ends.

    Raises:
        UsageError: another process trains this run.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(run / "timing.jsonl", wait=False))
        except BlockingIOError as error:
            raise UsageError(
                "one process at a time trains a run",
                f"{run}, which another one is training",
                "Wait for it, or choose another --out.",
            ) from error
        yield


def _lines(path: Path, needed: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The whole lines of a log that have a value `needed`; what a kill or a full disk cut short is
    passed over.
    """
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(values, dict) and needed in values:
            yield line, values


class RunLog:
    """Appends to a run's logs.

    metrics.jsonl holds only what is computed from data, so that equal runs write equal bytes;
    clocks go to timing.jsonl. Resuming at step s drops the lines after s: they will be written
    again.
    """

    def __init__(self, run: Path, resumed_step: int):
        self.metrics_path, self.timing_path = run / "metrics.jsonl", run / "timing.jsonl"
        kept = [
            (line, values)
            for line, values in _lines(self.metrics_path, "step")
            if values["step"] <= resumed_step
        ]
        whole_lines = b"".join(line for line, _ in kept)
        write_bytes(self.metrics_path, whole_lines, again=resume_hint(run))
        self.history = [values for _, values in kept]
        self._metrics = self.metrics_path.open("ab")
        self.epochs_timed = self._read_timing()
        self._timing = self.timing_path.open("ab")

    def _read_timing(self) -> dict[int, dict[str, Any]]:
        """What earlier processes measured, by epoch; an epoch that was run again counts once."""
        lines = list(_lines(self.timing_path, "epoch"))
        if self.timing_path.exists() and self.timing_path.read_bytes()[-1:] not in (b"", b"\n"):
            with self.timing_path.open("ab") as file:
                file.write(
                    b"\n"
                )  # ends a line that a kill cut, or the next one would be lost with it
        return {values["epoch"]: values for _, values in lines}

    def metrics(self, *, step: int, epoch: int, split: str, **values: Any) -> None:
        """One line: step and epoch are counts of what is finished."""
        line = {"step": step, "epoch": epoch, "split": split, **values}
        self.history.append(line)
        self._write(self._metrics, line)

    def timing(self, **values: Any) -> None:
        self._write(self._timing, {"time": round(time.time(), 3), **values})

    @staticmethod
    def _write(file: Any, line: Mapping[str, Any]) -> None:
        file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        file.flush()

    def sync(self) -> None:
        """Put the lines on disk: a checkpoint must never be ahead of them."""
        os.fsync(self._metrics.fileno())

    def close(self) -> None:
        for file in (self._metrics, self._timing):
            file.flush()
            os.fsync(file.fileno())
            file.close()


class Clock:
    """Seconds of an epoch, added up over the epochs of a run, those of earlier processes included.

    Args:
        log: whose timing.jsonl holds the epochs that are finished.
        first_epoch: their number.
        begun: what the epoch in hand had taken when it was saved.
        compiled_before: seconds of compilation that earlier runs on the same resident states paid
            for.
    """

    def __init__(
        self, log: RunLog, first_epoch: int, begun: Mapping[str, float], compiled_before: float
    ):
        self.compiled_before = compiled_before
        self.epoch: dict[str, float] = {}
        self.total: dict[str, float] = {}
        for epoch in range(1, first_epoch + 1):
            self.epoch = {
                name: value
                for name, value in log.epochs_timed.get(epoch, {}).items()
                if name not in ("time", "epoch")
            }
            self._close_epoch()
        self.epoch = dict(begun)
        self._before: Mapping[str, float] = {}

    def start(self, readings: Mapping[str, float]) -> None:
        """Readings that `lap` counts from."""
        self._before = readings

    def lap(self, readings: Mapping[str, float]) -> None:
        """Add what passed since the last `start` or `lap`."""
        self.add(**{name: value - self._before[name] for name, value in readings.items()})
        self._before = readings

    def add(self, **values: float) -> None:
        self.epoch = {
            **self.epoch,
            **{name: self.epoch.get(name, 0) + value for name, value in values.items()},
        }

    def write(self, log: RunLog, epoch: int) -> None:
        """The epoch's line in timing.jsonl; the next one begins at 0."""
        log.timing(epoch=epoch, **{name: round(value, 4) for name, value in self.epoch.items()})
        self._close_epoch()

    def _close_epoch(self) -> None:
        self.total = {
            name: self.total.get(name, 0) + self.epoch.get(name, 0)
            for name in {**self.total, **self.epoch}
        }
        self.epoch = {}


class Display:
    """Lines and a progress bar on stderr; the bar only on a terminal."""

    def __init__(self, *, quiet: bool = False):
        self.console = Console(file=sys.stderr, quiet=quiet, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = None

    def line(self, text: str) -> None:
        self.console.print(text, markup=False)

    def start(self, description: str, total: int, done: int) -> None:
        self._progress.start()
        self._task = self._progress.add_task(description, total=total, completed=done, status="")

    def advance(self, done: int, status: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, status=status)

    def stop(self) -> None:
        self._progress.stop()


_MOVED = {
    "write_json": "files",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)

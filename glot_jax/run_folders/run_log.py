"""What a run says while it goes on: metrics.jsonl, timing.jsonl, and the bar that people watch."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glot_jax.errors import UsageError
from glot_jax.files import locked, write_bytes
from glot_jax.moved import moved_name
from glot_jax.progress import ProgressLines
from glot_jax.run_folders.run_files import TIMING


def resume_hint(run: Path) -> str:
    """How an error of the disk tells the user to go on with a run."""
    return f"continue with --resume {run}"


@contextlib.contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold the right to write a run folder.

    The system gives it back when the process ends, however it ends.

    Raises:
        UsageError: another process trains this run.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(run / TIMING, wait=False))
        except BlockingIOError as error:
            raise UsageError(
                rule="only one process at a time may train a run",
                got=f"{run}, which another one is training",
                fix="Wait for it, or choose another --out.",
            ) from error
        yield


class _Line(NamedTuple):
    """A line of a log."""

    content: bytes
    """As it lies in the file: kept lines are written back byte for byte."""
    values: dict[str, Any]


def _lines(path: Path, key: str) -> Iterator[_Line]:
    """The whole lines of a log that have a value `key`.

    What a kill or a full disk cut short is passed over.
    """
    if not path.exists():
        return
    for content in path.read_bytes().splitlines(keepends=True):
        # Without its end a number may have lost digits and be JSON all the same.
        if not content.endswith(b"\n"):
            continue
        try:
            values = json.loads(content)
        except ValueError:
            continue
        if isinstance(values, dict) and key in values:
            yield _Line(content, values)


class RunLog:
    """Appends to a run's logs.

    metrics.jsonl holds only what is computed from data, so that equal runs write equal bytes;
    clocks go to timing.jsonl. Resuming at step s drops the lines after s: they will be written
    again.
    """

    def __init__(self, run: Path, resumed_step: int):
        self.metrics_path = run / "metrics.jsonl"
        self.timing_path = run / TIMING
        self.history: list[dict[str, Any]] = []
        """The lines of metrics.jsonl."""
        kept = []
        for line in _lines(self.metrics_path, "step"):
            if line.values["step"] <= resumed_step:
                kept.append(line.content)
                self.history.append(line.values)
        content = b"".join(kept)
        write_bytes(self.metrics_path, content, again=resume_hint(run))
        self._metrics = self.metrics_path.open("ab")
        self.epochs_timed = self._read_timing()
        self._timing = self.timing_path.open("ab")

    def _read_timing(self) -> dict[int, dict[str, Any]]:
        """What earlier processes measured, by epoch; an epoch that was run again counts once."""
        epochs = {}
        for line in _lines(self.timing_path, "epoch"):
            epochs[line.values["epoch"]] = line.values
        if not self.timing_path.exists():
            return epochs
        # A slice, because an empty file has no last byte.
        last_byte = self.timing_path.read_bytes()[-1:]
        if last_byte not in (b"", b"\n"):
            # Ends a line that a kill cut, or the next one would be lost with it.
            with self.timing_path.open("ab") as file:
                file.write(b"\n")
        return epochs

    def metrics(
        self,
        *,
        step: int,
        epoch: int,
        split: str,
        **values: float,
    ) -> None:
        """Write a line of metrics.jsonl; step and epoch are counts of what is finished."""
        line = {"step": step, "epoch": epoch, "split": split, **values}
        self.history.append(line)
        self._write(self._metrics, line)

    def timing(self, **values: float) -> None:
        """Write a line of timing.jsonl, with the time of day."""
        now = round(time.time(), 3)
        self._write(self._timing, {"time": now, **values})

    @staticmethod
    def _write(file: IO[bytes], line: Mapping[str, Any]) -> None:
        # Without NaN, which JSON does not have: other readers would stop at it.
        content = json.dumps(line, allow_nan=False).encode()
        file.write(content + b"\n")
        # Whoever follows the file sees the line now; `sync` puts it on disk.
        file.flush()

    def sync(self) -> None:
        """Put the lines on disk: a checkpoint must never be ahead of them."""
        # Of metrics.jsonl only: no number of a resumed run depends on the clocks.
        os.fsync(self._metrics.fileno())

    def close(self) -> None:
        """Put both logs on disk and close them."""
        for file in (self._metrics, self._timing):
            file.flush()
            # Closing hands the lines to the system, which may lose them in a power cut.
            os.fsync(file.fileno())
            file.close()


class Clock:
    """Seconds of an epoch, added up over the epochs of a run, those of earlier processes included.

    Args:
        log: its timing.jsonl holds the epochs that are finished.
        first_epoch: number of finished epochs.
        unfinished: what the current epoch had taken when it was saved.
        compiled_before: seconds of compilation that earlier runs on the same resident states paid
            for.
    """

    def __init__(
        self,
        log: RunLog,
        first_epoch: int,
        unfinished: Mapping[str, float],
        compiled_before: float,
    ):
        self.compiled_before = compiled_before
        self.epoch: dict[str, float] = {}
        self.total: dict[str, float] = {}
        for epoch in range(1, first_epoch + 1):
            seconds = dict(log.epochs_timed.get(epoch, {}))
            # What a line holds beside durations.
            seconds.pop("time", None)
            seconds.pop("epoch", None)
            self.epoch = seconds
            self._close_epoch()
        self.epoch = dict(unfinished)
        self._before: Mapping[str, float] = {}

    def start(self, readings: Mapping[str, float]) -> None:
        """Set the readings that `lap` counts from."""
        self._before = readings

    def lap(self, readings: Mapping[str, float]) -> None:
        """Add what passed since the last `start` or `lap`."""
        passed = {}
        for name, value in readings.items():
            passed[name] = value - self._before[name]
        self.add(**passed)
        self._before = readings

    def add(self, **values: float) -> None:
        """Add to the current epoch."""
        # A new dict: the old one may be on its way into a checkpoint.
        epoch = dict(self.epoch)
        for name, value in values.items():
            epoch[name] = epoch.get(name, 0) + value
        self.epoch = epoch

    def write(self, log: RunLog, epoch: int) -> None:
        """Write the epoch's line of timing.jsonl; the next epoch begins at 0."""
        rounded = {name: round(value, 4) for name, value in self.epoch.items()}
        log.timing(epoch=epoch, **rounded)
        self._close_epoch()

    def _close_epoch(self) -> None:
        for name, value in self.epoch.items():
            self.total[name] = self.total.get(name, 0) + value
        self.epoch = {}


class Display:
    """Lines and a progress bar on stderr; the bar only on a terminal.

    Args:
        quiet: print nothing; a name: nothing but how far the run of this name is.
        prefix: of every line.
        bar: show it.
    """

    def __init__(self, *, quiet: bool | str = False, prefix: str = "", bar: bool = True):
        self.prefix = prefix
        self._quiet = quiet
        self._name = ""
        if isinstance(quiet, str):
            self._name = f"{quiet}: "
        self.console = Console(
            file=sys.stderr,
            quiet=bool(quiet),
            highlight=False,
            # Lines are not broken: paths and commands in them are to be copied.
            soft_wrap=True,
        )
        shows = bar and (not quiet or bool(self._name))
        # A quiet console would swallow the bar as well.
        shown = Console(file=sys.stderr, highlight=False, soft_wrap=True) if shows else self.console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=shown,
            transient=True,
            disable=not shows or not shown.is_terminal,
        )
        self._task = None
        self._total = 0
        # Whoever watches a log instead of a terminal is told now and then.
        self._lines: ProgressLines | None = None
        if shows and not shown.is_terminal:
            self._lines = ProgressLines(
                lambda line: shown.print(prefix + self._name + line, markup=False)
            )

    def line(self, text: str) -> None:
        """Print a line as it is: names of files may look like markup."""
        self.console.print(self.prefix + text, markup=False)

    def named(self, name: str, *, bar: bool) -> Display:
        """Another display of the same loudness, whose lines begin with a name.

        Args:
            name: of a run among several.
            bar: of several displays at once only one can have it.
        """
        return Display(quiet=self._quiet, prefix=f"{name}: ", bar=bar)

    def start(self, description: str, total: int, done: int) -> None:
        """Show the bar, at step `done` of `total`."""
        self._progress.start()
        self._total = total
        if self._lines is not None:
            self._lines.begin(done)
        # The last column shows `status`, and fails for a task without one.
        self._task = self._progress.add_task(
            self._name + description,
            total=total,
            completed=done,
            status="",
        )

    def advance(self, done: int, status: str = "") -> None:
        """Move the bar to step `done`."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, status=status)
        if self._lines is not None:
            total = self._total
            self._lines.update(done, total, lambda: f"step {done:,} of {total:,}, {status}")

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()


_MOVED = {
    "write_json": "files",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)

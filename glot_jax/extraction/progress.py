"""What an extraction tells the user: size and disk before it starts, a bar while it runs, counts
when a split is done.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import require
from glot_jax.extraction.backbone import Backbone
from glot_jax.store.arrays import DTYPES
from glot_jax.store.records import SplitRecord
from glot_jax.texts import Split

SAMPLE_ROWS = 512
"""Rows of each split, at most, that the size estimate tokenises; smaller splits are counted
exactly.
"""


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is: paths may hold what rich takes for markup."""
    console.print(Text(text, style=style), soft_wrap=True)


def estimate_tokens(splits: Mapping[str, Split], backbone: Backbone) -> dict[str, int]:
    """Tokens of each split, extrapolated from rows at even distances: files are often sorted by
    length.
    """
    estimates = {}
    for name, split in splits.items():
        rows = list(itertools.islice(split, 0, None, -(-len(split) // SAMPLE_ROWS)))
        # More characters than any text keeps tokens of: of texts of megabytes only the beginning is
        # looked at.
        longest = 16 * backbone.max_length
        tokens = sum(
            map(len, backbone.tokenize([text[:longest] for row in rows for text in row.texts]).ids)
        )
        estimates[name] = round(tokens * len(split) / max(1, len(rows)))
    return estimates


def check_disk(
    out: Path, tokens: int, backbone: Backbone, config: ExtractConfig, present: int, workers: int
) -> str:
    """The line that tells the size, `present` bytes of which exist; UsageError if the disk is too
    small for one worker's part of the rest. Of texts that are stored once (`--deduplicate`) nobody
    knows how many are left: they are let through.
    """
    itemsize = DTYPES[
        "float16" if config.storage_dtype == "auto" else config.storage_dtype
    ].itemsize
    total = tokens * (len(backbone.layers) * backbone.dim * itemsize + 4)
    needed = max(0, total - present) // workers
    folder = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    require(
        needed <= free or config.deduplicate,
        f"the disk of {folder} has room for the store",
        f"about {size(needed)} ({needed} bytes) needed for {out}, {size(free)} ({free} bytes) free",
        "Free some space, choose another --out, or store less (--max-length, --layers,"
        " --storage-dtype, --max-train-rows).",
    )
    done = f", {size(present)} of it done" if present else ""
    return f"{out}: about {tokens:,} tokens, {size(total)}{done}; {size(free)} free"


def size(count: float) -> str:
    """Bytes for people: 75.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class SplitProgress:
    """The bar of one split, on a terminal only, and the line that sums it up, everywhere."""

    def __init__(self, console: Console, name: str, tokens: int):
        self._console, self._name = console, name
        self._started, self._ended = time.perf_counter(), 0.0
        self.done = (0, 0, 0)
        """Tokens found done, tokens stored by this run, and bytes of their states."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of about {task.total:,.0f} tokens"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[written]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=tokens, rate="", written="")

    def __enter__(self) -> SplitProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._ended = time.perf_counter()

    def advance(self, tokens: int, written: int) -> None:
        """Some tokens are done; `written` bytes of states were stored for them, 0 for those found
        done.
        """
        found, stored, volume = self.done
        self.done = (
            (found, stored + tokens, volume + written)
            if written
            else (found + tokens, stored, volume)
        )
        self._show()

    def rewind(self, done: tuple[int, int, int]) -> None:
        """Go back to an earlier value of `done`: a shard has to be done again."""
        self.done = done
        self._show()

    def _show(self) -> None:
        found, stored, written = self.done
        self._bar.update(
            self._task, completed=found + stored, rate=self._rate(), written=size(written)
        )

    def summarise(self, record: SplitRecord, max_length: int) -> None:
        """Print the split's counts, and a warning if texts were cut or empty."""
        rate = f", {self._rate()}" if self.done[1] else ", nothing left to do"
        stored = sum(file["bytes"] for shard in record.shards for file in shard.files.values())
        say(
            self._console,
            f"{self._name}: {record.rows:,} rows, {record.tokens:,} tokens, {len(record.shards)}"
            f" shards, {size(stored)}{rate}",
        )
        odd = []
        if record.truncated:
            odd.append(
                f"{record.truncated:,} of {record.texts:,} texts were cut to {max_length} tokens"
                " (--max-length)"
            )
        if record.empty:
            odd.append(f"{record.empty:,} texts are empty")
        if odd:
            say(self._console, f"{self._name}: {'; '.join(odd)}", "yellow")

    def _rate(self) -> str:
        return (
            f"{self.done[1] / max(1e-9, (self._ended or time.perf_counter()) - self._started):,.0f}"
            " tokens/s"
        )

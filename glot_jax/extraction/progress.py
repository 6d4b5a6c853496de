"""What an extraction tells the user: its size before it starts, a bar, and counts at the end."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from glot_jax.backbones.distant import KnownBackbone
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import StoreUrl
from glot_jax.errors import UsageError
from glot_jax.progress import ProgressLines
from glot_jax.remote_stores.out import AT_ONCE
from glot_jax.store.records import SplitRecord
from glot_jax.store.scaled_states import bytes_per_token
from glot_jax.texts import Split

_SMALLER = ("float32", "float16", "int8", "int4")
"""Storage dtypes whose size a new store is told, so that one can be chosen by it."""

SAMPLE_ROWS = 512
"""Rows of each split, at most, that the size estimate tokenises; smaller splits are counted
exactly.
"""


def say(
    console: Console,
    text: str,
    style: str = "",
) -> None:
    """Print a line as it is: paths may hold what rich takes for markup."""
    console.print(Text(text, style=style), soft_wrap=True)


def estimate_tokens(splits: Mapping[str, Split], backbone: KnownBackbone) -> dict[str, int]:
    """Estimate the tokens of each split from a sample of its rows."""
    estimates = {}
    # More characters than any text keeps tokens of: only the beginning of a text of megabytes is
    # looked at.
    longest = 16 * backbone.max_length
    for name, split in splits.items():
        # Rows at even distances: files are often sorted by length.
        step = -(-len(split) // SAMPLE_ROWS)
        rows = list(itertools.islice(split, 0, None, step))
        texts: list[str] = []
        for row in rows:
            texts += [text[:longest] for text in row.texts]
        tokens = sum(map(len, backbone.tokenize(texts).ids))
        # A split may be empty.
        sampled = max(1, len(rows))
        estimates[name] = round(tokens * len(split) / sampled)
    return estimates


def check_disk(
    out: Path,
    tokens: int,
    backbone: KnownBackbone,
    config: ExtractConfig,
    present: int,
    workers: int,
) -> str:
    """Compare the size of a store with the room there is.

    Args:
        out: folder that is written to, which need not exist yet.
        tokens: of the whole store, about.
        backbone: whose states are stored.
        config: settings of the extraction.
        present: bytes that are stored already.
        workers: how many share the rest.

    Returns:
        The line that tells the user both.

    Raises:
        UsageError: the disk is too small for one worker's part of the rest. With `--deduplicate`
            nobody knows how many texts are left to store, so the store is let through.
    """
    # A shard of large states is stored as bfloat16 instead, which has the same size.
    dtype = "float16" if config.storage_dtype == "auto" else config.storage_dtype
    token_bytes = _state_bytes(backbone, dtype) + 4  # 4 bytes for the token's id
    total = tokens * token_bytes
    # An estimate may be below what is there already.
    needed = max(0, total - present) // workers
    if isinstance(config.out, StoreUrl) and not config.remote.keep_scratch:
        # Whatever the size of the store, only a few of its shards are here at once.
        needed = min(needed, AT_ONCE * config.shard_tokens * token_bytes)
    folder = out.absolute()
    # OUT need not exist yet: its nearest parent that does lies on the same disk.
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free and not config.deduplicate:
        raise UsageError(
            rule=f"the disk of {folder} must have room for the store",
            got=f"about {size(needed)} ({needed} bytes) needed for {config.out}, {size(free)}"
            f" ({free} bytes) free",
            fix="Free some space, choose another --out, or store less (--max-length, --layers,"
            " --storage-dtype, --max-train-rows).",
        )
    done = f", {size(present)} of it done" if present else ""
    line = f"{config.out}: about {tokens:,} tokens, {size(total)}{done}; {size(free)} free"
    if isinstance(config.out, StoreUrl):
        line += f" in {out}, for shards on their way"
    others = []
    for other in _SMALLER:
        if other != dtype and not present:
            others.append(f"{other} {size(tokens * (_state_bytes(backbone, other) + 4))}")
    # Before the first byte: afterwards it is too late to choose.
    if others:
        line += f" (--storage-dtype {', '.join(others)})"
    return line


def _state_bytes(backbone: KnownBackbone, dtype: str) -> int:
    """Bytes of a token's states in all layers."""
    return len(backbone.layers) * bytes_per_token(dtype, backbone.dim)


def size(count: float) -> str:
    """Write a number of bytes for people: 75.3 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


@dataclasses.dataclass(frozen=True)
class Done:
    """How much of a split is done."""

    earlier: int = 0
    """Tokens of shards that an earlier run had stored."""
    stored: int = 0
    """Tokens that this run has stored."""
    volume: int = 0
    """Bytes of their states."""


class SplitProgress:
    """The bar of one split, on a terminal only, and the line that sums it up, everywhere."""

    def __init__(self, console: Console, name: str, tokens: int):
        """Prepare the bar of the split `name`, which has about `tokens` tokens."""
        self._console = console
        self._name = name
        self._started = time.perf_counter()
        self._ended = 0.0
        self.done = Done()
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
        self._tokens = tokens
        self._lines: ProgressLines | None = None
        if not console.is_terminal:
            self._lines = ProgressLines(lambda line: say(console, line))
        # The total is an estimate, and says so in its column.
        self._task = self._bar.add_task(
            name,
            total=tokens,
            rate="",
            written="",
        )

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

    def find(self, tokens: int) -> None:
        """Count tokens of a shard that was stored before."""
        earlier = self.done.earlier + tokens
        self._show(dataclasses.replace(self.done, earlier=earlier))

    def store(self, tokens: int, volume: int) -> None:
        """Count tokens whose states, `volume` bytes, this run has stored."""
        stored = self.done.stored + tokens
        volume += self.done.volume
        done = dataclasses.replace(self.done, stored=stored, volume=volume)
        self._show(done)

    def rewind(self, done: Done) -> None:
        """Go back to an earlier value of `done`: a shard has to be done again."""
        self._show(done)

    def _show(self, done: Done) -> None:
        # Kept without a terminal too: the summary needs the counts.
        self.done = done
        self._bar.update(
            self._task,
            completed=done.earlier + done.stored,
            rate=self._rate(),
            written=size(done.volume),
        )
        if self._lines is not None:
            # What was found took no time.
            finished = done.stored
            total = self._tokens - done.earlier
            self._lines.update(finished, total, self._line)

    def _line(self) -> str:
        count = self.done.earlier + self.done.stored
        return f"{self._name}: {count:,} of about {self._tokens:,} tokens, {self._rate()}"

    def summarise(self, record: SplitRecord, max_length: int, *, with_rate: bool = True) -> None:
        """Print the split's counts, and a warning if texts were cut or empty.

        Args:
            record: of the split.
            max_length: tokens that texts were cut to.
            with_rate: whether the split had time of its own, and not with others.
        """
        rate = ""
        if with_rate:
            # Found shards cost no forward pass: a rate with them would flatter.
            rate = f", {self._rate()}" if self.done.stored else ", nothing left to do"
        stored = 0
        for shard in record.shards:
            stored += sum(file["bytes"] for file in shard.files.values())
        say(
            self._console,
            f"{self._name}: {record.rows:,} rows, {record.tokens:,} tokens, {len(record.shards)}"
            f" shards, {size(stored)}{rate}",
        )
        # After the counts, which tell how many of all the texts these are.
        warnings = []
        # Not an error: many tasks have a few texts of any length.
        if record.truncated:
            warnings.append(
                f"{record.truncated:,} of {record.texts:,} texts were cut to {max_length} tokens"
                " (--max-length)"
            )
        if record.empty:
            warnings.append(f"{record.empty:,} texts are empty")
        if warnings:
            say(self._console, f"{self._name}: {'; '.join(warnings)}", "yellow")

    def _rate(self) -> str:
        # The clock stops with the bar: the last shards are sealed while the next split runs.
        ended = self._ended or time.perf_counter()
        seconds = max(1e-9, ended - self._started)
        return f"{self.done.stored / seconds:,.0f} tokens/s"

"""`glot encode`: the texts of a file to a file of vectors, in their order, a window at a time."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from glot_jax.errors import UsageError, lookup
from glot_jax.file_formats.formats import Reading, name_parts, open_file, open_text
from glot_jax.file_formats.quoting import listed
from glot_jax.file_formats.records import Source, did_you_mean, require_text
from glot_jax.files import whole_file
from glot_jax.inference.vector_files import VECTOR_WRITERS

if TYPE_CHECKING:
    from glot_jax.inference.encoder import SentenceEncoder

_WINDOW = 8192  # texts encoded, and vectors held, at a time


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file of texts, compressed or not.

    A .txt file has a text in each line (an empty line is an empty text); any other format of
    `glot_jax.file_formats.formats` has them in a column.
    """

    path: Path
    column: str | None = None
    """Default: "text". A .txt file has none."""
    encoding: str | None = None
    """Of text files without a byte-order mark; None: UTF-8."""

    @property
    def has_lines(self) -> bool:
        """Whether each line is a text."""
        return name_parts(self.path.name)[1] == "txt"

    def open(self) -> Source:
        """The file's rows; reading them fills in `remarks`."""
        if self.has_lines:
            return open_text(self.path, self.encoding)
        column = self.column or "text"
        # A table's header is recognised by the name of the column.
        reading = Reading(encoding=self.encoding, columns=(column,))
        return open_file(self.path, reading)

    def texts(self, rows: Source | None = None) -> Iterator[str]:
        """The texts in their order.

        Args:
            rows: what `open` gave; default: opened anew.

        Raises:
            UsageError: a row without the column, or whose text is not a string.
        """
        column = self.column or "text"
        # `check_files` keeps what it opened, because the remarks are told after the last row.
        source = self.open() if rows is None else rows
        for record in source.read([column]):
            if column not in record.columns:
                hint = did_you_mean([column], record.columns)
                raise UsageError(
                    rule="--column must be a column of FILE",
                    got=f"{record.columns_location}: {listed(record.columns)}",
                    fix=f"{hint}Give one of these, not {column}.",
                )
            text = record.values[column]
            require_text(text, column, record.location)
            yield text


def check_files(source: TextFile, out: Path) -> int:
    """Count the rows of `source`, after a look at every text.

    Nothing is loaded then for a file that cannot be encoded. What its reader assumed or left out
    goes to stderr, a line each.

    Raises:
        UsageError: a file that is missing or damaged, a row without the column or whose text is not
            a string; an `out` of another format, or in a folder that does not exist.
    """
    # OUT first: reading a large file takes longer than looking at a suffix.
    lookup(VECTOR_WRITERS, out.suffix[1:], "format of --out, its suffix")
    if not out.parent.is_dir():
        raise UsageError(
            rule="--out must lie in a folder that exists",
            got=out,
            fix=f"Create {out.parent} first.",
        )
    # A link to nothing is told by what opens it.
    if not (source.path.is_file() or source.path.is_symlink()):
        raise UsageError(
            rule="FILE must hold texts",
            got=f"{source.path}, which is not a file",
            fix="Check the path.",
        )
    if source.column is not None and source.has_lines:
        raise UsageError(
            rule="a .txt file has a text in each line, and no columns",
            got=f"--column {source.column}",
            fix="Leave out --column.",
        )
    rows = source.open()
    # Counted and not kept: the file may be larger than the memory.
    count = sum(1 for _ in source.texts(rows))
    for line in rows.remarks.values():
        print(line, file=sys.stderr)
    return count


def encode_file(
    encoder: SentenceEncoder,
    source: TextFile,
    out: Path,
    rows: int,
    *,
    batch_size: int = 32,
    normalize: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the vectors of a file of texts to OUT, which is absent or whole.

    OUT.npy holds float32 [rows, dim]; OUT.parquet the columns row (int64) and vector (a fixed-size
    list of float32).

    Args:
        encoder: makes the vectors.
        source: the texts.
        out: file to write; its suffix decides the format.
        rows: of `source`, as `check_files` counted them.
        batch_size: texts of one forward pass.
        normalize: scale vectors to unit length.
        progress: called with the number of rows that are done.

    Raises:
        UsageError: as check_files; texts that changed since; an OUT that cannot be written.
    """
    texts = source.texts()
    open_writer = VECTOR_WRITERS[out.suffix[1:]]
    with (
        whole_file(out) as temporary,
        closing(open_writer(temporary, rows, encoder.dim)) as writer,
    ):
        done = 0
        while window := list(islice(texts, _WINDOW)):
            # Before it is written: a .npy file says at its head how many rows it has.
            # The file is read a second time, and may have grown since it was counted.
            if done + len(window) > rows:
                raise _changed(f"more than {rows:,} rows")
            vectors = encoder.encode(window, batch_size=batch_size, normalize=normalize)
            writer.write(vectors, done)
            done += len(window)
            if progress is not None:
                progress(done)
        if done != rows:
            raise _changed(f"{done:,} rows, not {rows:,}")


def _changed(got: str) -> UsageError:
    return UsageError(rule="FILE must stay as it is while it is read", got=got, fix="Run it again.")

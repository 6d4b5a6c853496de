"""Rows of a Parquet file, a batch at a time. A damaged page is noticed where its writer stored
checksums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError, require
from glot_jax.texts.quoting import because, plain
from glot_jax.texts.records import BATCH_ROWS, Record, extract_extra, require_unique


def parquet_records(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    """Records with the `wanted` columns that there are, each with `file:row`. UsageError for a
    damaged file.
    """
    parquet, number, rule = (
        extract_extra("pyarrow.parquet"),
        0,
        "a .parquet file can be read by pyarrow",
    )
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            require_unique(names, str(path))
            # Columns that nobody wants are not decoded: their types are their own business.
            present = [name for name in names if name in wanted]
            for batch in (
                file.iter_batches(batch_size=BATCH_ROWS, columns=present) if present else ()
            ):
                for values in _values(batch, path, number):
                    number += 1
                    yield Record(f"{path}:row {number}", values, names)
            if not present:
                yield from (Record(f"{path}:row {row}", {}, names) for row in range(1, rows + 1))
    except UsageError:
        raise
    # pyarrow's own errors, OverflowError, KeyError: a damaged file has many ways to fail.
    except Exception as error:
        raise UsageError(
            rule, f"{path} after row {number}: {because(error)}", "Write it again."
        ) from error
    got = f"{path} after row {number}: no more, but {rows} announced"
    require(not present or number == rows, rule, got, "Write it again.")


def _values(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    """The batch's rows, which follow `before` others. UsageError with the row of a value that
    Python cannot hold.
    """
    try:
        return batch.to_pylist()
    except Exception:
        for row in range(batch.num_rows):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    column[row].as_py()
                except Exception as error:  # OverflowError, UnicodeDecodeError, ArrowInvalid ...
                    got = f"{path}:row {before + row + 1}: {plain(name)}: {because(error)}"
                    fix = "Correct the value, or store the column as strings or numbers."
                    raise UsageError("a value of a .parquet file can be read", got, fix) from error
        raise

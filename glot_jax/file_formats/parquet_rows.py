"""Rows of a Parquet file, a batch at a time.

A damaged page is noticed where its writer stored checksums.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because, plain
from glot_jax.file_formats.records import (
    BATCH_ROWS,
    Columns,
    Record,
    Records,
    extract_extra,
    require_unique,
)

if TYPE_CHECKING:
    import pyarrow


def parquet_records(path: Path, columns: Columns) -> Records:
    """Yield records with those of the `columns` that exist, each with `file:row`.

    Raises:
        UsageError: a file that is damaged, or that holds a value which Python cannot.
    """
    parquet = extract_extra("pyarrow.parquet")
    number = 0
    try:
        # Checksums are off by default, and a flipped bit would be a wrong text.
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            rows = file.metadata.num_rows
            # A row is a dict, which has room for one column of a name.
            require_unique(names, str(path))
            # Columns that nobody asks for are not decoded: their types are their own business.
            present = [name for name in names if name in columns]
            if not present:
                # Batches without columns have no rows either.
                for number in range(1, rows + 1):
                    yield Record(f"{path}:row {number}", {}, names)
                return
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=present):
                for values in _values(batch, path, number):
                    number += 1
                    yield Record(f"{path}:row {number}", values, names)
    except UsageError:
        raise
    # pyarrow's own errors, OverflowError, KeyError: a damaged file has many ways to fail.
    except Exception as error:
        raise _unreadable(path, number, because(error)) from error
    if number != rows:
        raise _unreadable(path, number, f"no more, but {rows} announced")


def _unreadable(path: Path, number: int, reason: str) -> UsageError:
    return UsageError(
        rule="a .parquet file must be readable by pyarrow",
        got=f"{path} after row {number}: {reason}",
        fix="Write it again.",
    )


def _values(
    batch: pyarrow.RecordBatch,
    path: Path,
    rows_before: int,
) -> list[dict[str, Any]]:
    """The batch's rows, which follow `rows_before` others.

    Raises UsageError with the row of a value that Python cannot hold.
    """
    try:
        return batch.to_pylist()
    except Exception:
        # pyarrow says what is wrong and not where: the batch is searched value by value.
        for row in range(batch.num_rows):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    column[row].as_py()
                # OverflowError, UnicodeDecodeError, ArrowInvalid ...
                except Exception as error:
                    location = f"{path}:row {rows_before + row + 1}"
                    raise UsageError(
                        rule="a value of a .parquet file must be readable",
                        got=f"{location}: {plain(name)}: {because(error)}",
                        fix="Correct the value, or store the column as strings or numbers.",
                    ) from error
        raise

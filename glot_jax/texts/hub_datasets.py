"""A task's splits on the Hub, read by the package datasets, as records like those of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glot_jax.errors import UsageError
from glot_jax.file_formats.records import (
    BATCH_ROWS,
    Columns,
    Record,
    Records,
    Source,
    extract_extra,
)
from glot_jax.texts.folders import expected
from glot_jax.texts.tasks import TaskSpec

if TYPE_CHECKING:
    import datasets


def hub_sources(spec: TaskSpec) -> dict[str, Source]:
    """The task's splits on the Hub.

    Raises:
        UsageError: whatever keeps them from being loaded; the message names `--data`.
    """
    fix = _local_files(spec)
    if spec.hub is None:
        raise UsageError(
            rule=f"task {spec.name} needs local files",
            got="no --data",
            fix=fix,
        )
    # Imported here: reading files must not take the seconds that this takes.
    library = extract_extra("datasets")
    repository, subset = spec.hub
    sources: dict[str, Source] = {}
    for split, hub_name in spec.splits:
        try:
            rows = library.load_dataset(repository, subset, split=hub_name)
        # Its failures share no base class: connection, offline mode, missing, gated, disk.
        except Exception as error:
            raise UsageError(
                rule=f"without --data, {repository} must be loaded from the Hub",
                got=f"{type(error).__name__}: {error}",
                fix=fix,
            ) from error
        # As load_dataset is called, for messages.
        parts = [repository, hub_name] if subset is None else [repository, subset, hub_name]
        sources[split] = _hub_source(rows, "/".join(parts))
    return sources


def _local_files(spec: TaskSpec) -> str:
    """What to do without the Hub."""
    columns = list(spec.text_columns)
    if spec.label_column is not None:
        columns.append(spec.label_column)
    fix = f"Pass --data DIR with {expected(spec)}"
    if columns:
        return f"{fix}, columns: {', '.join(columns)}."
    return f"{fix}."


def _hub_source(rows: datasets.Dataset, name: str) -> Source:
    def read(columns: Columns) -> Records:
        names = rows.column_names
        # A table read without any column would forget how many rows it has.
        present = [column for column in names if column in columns] or names
        number = 0
        batches: Any = rows.select_columns(present).iter(batch_size=BATCH_ROWS)
        for batch in batches:
            for fields in zip(*batch.values(), strict=True):
                number += 1
                values = dict(zip(batch, fields, strict=True))
                yield Record(f"{name}:row {number}", values, names)

    return Source(
        name=name,
        typed=True,
        read=read,
    )

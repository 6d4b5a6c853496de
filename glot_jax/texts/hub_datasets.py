"""A task's splits on the Hub, read by the package datasets, as a stream of the same records as
files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.texts.folders import expected
from glot_jax.texts.records import BATCH_ROWS, Record, Source, extract_extra
from glot_jax.texts.tasks import TaskSpec


def hub_sources(spec: TaskSpec) -> dict[str, Source]:
    """The task's splits on the Hub. Whatever keeps them from being loaded is a UsageError that
    names `--data`.
    """
    columns = ", ".join([*spec.text_columns, *filter(None, [spec.label_column])])
    local = f"Pass --data DIR with {expected(spec)}" + (
        f", columns: {columns}." if columns else "."
    )
    if spec.hub is None:
        raise UsageError(f"task {spec.name} reads local files", "no --data", local)
    datasets = extract_extra("datasets")
    repository, subset = spec.hub
    sources = {}
    for split, hub_name in spec.splits:
        try:
            rows = datasets.load_dataset(repository, subset, split=hub_name)
        # Its failures share no base class: connection, offline mode, missing, gated, disk.
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            raise UsageError(
                f"without --data, {repository} is loaded from the Hub", got, local
            ) from error
        sources[split] = _hub_source(rows, "/".join(filter(None, [repository, subset, hub_name])))
    return sources


def _hub_source(rows: Any, name: str) -> Source:
    def read(wanted: Sequence[str]) -> Iterator[Record]:
        names = rows.column_names
        # A table read without any column would forget how many rows it has.
        number, table = 0, rows.select_columns([name for name in names if name in wanted] or names)
        for batch in table.iter(batch_size=BATCH_ROWS):
            for values in zip(*batch.values(), strict=True):
                number += 1
                yield Record(f"{name}:row {number}", dict(zip(batch, values, strict=True)), names)

    return Source(name, True, read)

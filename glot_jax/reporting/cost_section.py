"""The section of a report about measured times, beside those that the paper prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from glot_jax.reporting import paper
from glot_jax.reporting.pages import Block, Heading
from glot_jax.reporting.tables import Column, Table

CostValue = float | int | str | None


@dataclasses.dataclass(frozen=True)
class CostRow:
    """Times of one pooler or one length of text: ours, or a row of the paper."""

    values: Mapping[str, CostValue]
    """Field -> value; fields that were not measured may be missing."""
    printed: bool = False
    """A row of the paper."""


def cost_section(
    title: str,
    records: Sequence[Mapping[str, CostValue]],
    titles: Mapping[str, str],
    printed: paper.Rows,
) -> list[Block]:
    """Heading and table of measured times with the paper's below them.

    Args:
        title: the heading.
        records: fields of `GraphCost` or `HeadCost` in glot_jax.profiling, as JSON values.
        titles: field of a record -> title of its column; the first field names the row.
        printed: rows of the paper, whose columns are named as the fields are.
    """
    rows = [CostRow(record) for record in records]
    # The paper's rows are named in the column that names ours.
    first = next(iter(titles))
    for name, numbers in printed.items():
        # The name replaces whatever number the paper prints under the first field.
        values = {**numbers, first: f"paper: {name}"}
        rows.append(CostRow(values, printed=True))
    # Fields that a record lacks leave their cells empty.
    # By a function, whose argument is the field: a lambda in a loop sees the last one only.
    columns = [_column(field, heading) for field, heading in titles.items()]
    caption = _caption(records)
    return [
        Heading(title),
        Table.by_columns(columns, rows, caption, faint=lambda row: row.printed),
    ]


def _column(field: str, title: str) -> Column[CostRow]:
    return Column(title, lambda row: _text(row.values.get(field)))


def _text(value: CostValue) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Three digits of a time that is short; counts and long times as whole numbers.
    if isinstance(value, float) and abs(value) < 100:
        return f"{value:,.3g}"
    return f"{value:,.0f}"


def _caption(records: Sequence[Mapping[str, CostValue]]) -> str:
    if not records:
        return ""
    # The worst of them: one busy minute spoils the comparison.
    loads = [float(record.get("load_per_core") or 0) for record in records]
    load = max(loads)
    caption = (
        f"Medians on this machine, {records[0].get('backbone', '')}; one-minute load per core"
        f" before: {load:.2f}."
    )
    if load > 0.5:
        caption += (
            " Other work ran beside: the backbone's threads suffer more from it than the head's, so"
            " shares of the head come out too small."
        )
    return caption

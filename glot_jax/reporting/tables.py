"""Parts of a report that are tables by themselves: the paper's numbers, stress tests, measured
times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.files import read_json
from glot_jax.reporting import figures, paper
from glot_jax.reporting.pages import Block, Figure, Heading, Table
from glot_jax.reporting.statistics import p_text

_PLAIN = ("glot", "glot, tau 0.6", "glot, gat")


@dataclasses.dataclass(frozen=True)
class PaperTables:
    """Tables of the paper that stand beside ours, of one of its backbones."""

    names: tuple[str, ...]
    backbone: str

    def number(self, row: str, column: str) -> float | None:
        """Of the first table that has it.

        The paper's GLOT has GAT layers and tau 0.6 where a table varies neither.
        """
        rows = _PLAIN if row == "glot" else (row,)
        tables = [paper.TABLES[name].get(self.backbone, {}) for name in self.names]
        return next(
            (
                table[name][column]
                for table in tables
                for name in rows
                if column in table.get(name, {})
            ),
            None,
        )

    def rows(self, column: str) -> list[str]:
        """Rows that have a number in this column; the paper's plain GLOT is called glot, whatever a
        table calls it.
        """
        tables = [paper.TABLES[name].get(self.backbone, {}) for name in self.names]
        return list(
            dict.fromkeys(
                "glot" if row in _PLAIN else row
                for table in tables
                for row, of in table.items()
                if column in of
            )
        )

    @property
    def noun(self) -> str:
        return f"paper, {self.backbone}"

    @property
    def source(self) -> str:
        return ", ".join(name.replace("table", "Table ") for name in self.names)


def stress_section(path: Path, number: int) -> list[Block]:
    records = read_json(path)
    compared = (
        read_json(path.with_name("comparison.json"))
        if path.with_name("comparison.json").exists()
        else []
    )
    tests = list(
        dict.fromkeys(
            (record["protocol"], record["ratio"], record.get("distance"), record.get("position"))
            for record in records
        )
    )
    rows, faint = [], []
    for test in tests:
        here = [
            of
            for of in records
            if (of["protocol"], of["ratio"], of.get("distance"), of.get("position")) == test
        ]
        for name in dict.fromkeys(of.get("pooler") or f"control: {of['control']}" for of in here):
            scores = [
                of["accuracy"]
                for of in here
                if name in (of.get("pooler"), f"control: {of.get('control')}")
            ]
            of = next(
                (
                    of
                    for of in compared
                    if of["pooler"] == name
                    and (of["protocol"], of["ratio"], of.get("distance"), of.get("position"))
                    == test
                ),
                {},
            )
            where = "".join(
                f", {noun} {value:g}"
                for noun, value in (("distance", test[2]), ("position", test[3]))
                if value is not None
            )
            interval = (
                ""
                if not of.get("interval")
                else f"[{of['interval'][0]:.3f}, {of['interval'][1]:.3f}]"
            )
            against = (
                ""
                if "glot_minus_this" not in of
                else f"{of['glot_minus_this']:+.3f}{p_text(of['p'], of.get('p_seeds'))}"
            )
            printed = paper.TABLES["table7"]["BERT"].get(name, {}).get(f"{test[1]:g}")
            if name.startswith("control"):
                faint.append(len(rows))
            rows.append(
                (
                    f"{test[0]}, {test[1]:.0%}{where}",
                    name,
                    number_text(*spread(scores)),
                    interval,
                    against,
                    "" if printed is None or test[0] != "paper" else f"{printed / 100:.3f}",
                )
            )
    columns = (
        "protocol, distractors",
        "pooler or control",
        "test accuracy",
        "95 % of rows",
        "glot - this (p rows; seeds)",
        "paper, BERT (Table 7)",
    )
    if all(not row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    caption = (
        "Chance is 0.5. Controls see the length or the words alone, never their relation;"
        " glot-self-loops, -complete and -random are GLOT on graphs that know nothing of the text."
        " p over rows: a permutation test of these trained heads on the same rows; over seeds:"
        " whether training again gives the same order (Welch)."
    )
    figure = Figure(
        f"stress{number or ''}",
        figures.svg(figures.stress_figure(records)),
        "Figure 3: accuracy by share of distractors.",
    )
    return [
        Heading("Stress test"),
        Table(columns, tuple(rows), caption, faint=tuple(faint)),
        figure,
    ]


def cost_table(
    title: str, records: Sequence[dict[str, Any]], columns: dict[str, str], printed: paper.Rows
) -> list[Block]:
    """Measured times beside the paper's.

    Args:
        columns: field of a record -> its heading; the first names the row.
        printed: the paper's rows, whose columns are named as the fields are.
    """

    def cell(value: Any) -> str:
        return (
            ""
            if value is None
            else (
                f"{value:,.3g}"
                if isinstance(value, float) and abs(value) < 100
                else f"{value:,.0f}"
                if isinstance(value, (int, float))
                else str(value)
            )
        )

    rows = [tuple(cell(record.get(field)) for field in columns) for record in records]
    faint = range(len(rows), len(rows) + len(printed))
    rows += [
        (f"paper: {name}", *(cell(values.get(field)) for field in list(columns)[1:]))
        for name, values in printed.items()
    ]
    load = max((float(record.get("load_per_core") or 0) for record in records), default=0.0)
    caption = (
        f"Medians on this machine, {records[0].get('backbone', '')}; one-minute load per core"
        f" before: {load:.2f}."
        if records
        else ""
    )
    if load > 0.5:
        caption += (
            " Other work ran beside: the backbone's threads suffer more from it than the head's, so"
            " shares of the head come out too small."
        )
    return [
        Heading(title),
        Table(tuple(columns.values()), tuple(rows), caption, faint=tuple(faint)),
    ]


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def number_text(mean: float, deviation: float | None) -> str:
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"

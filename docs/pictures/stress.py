"""Draw stress.svg beside this file from the records in benchmarks/results/stress.json.

    python docs/pictures/stress.py

`glot stress` draws the same figure of its own records; these are the run of docs/results/stress.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

from glot_jax.reporting.figures import stress_figure, svg
from glot_jax.reporting.stress_records import StressRecord

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "stress.json"
PICTURE = Path(__file__).with_suffix(".svg")


def main() -> None:
    """Draw the figure."""
    values = json.loads(RESULTS.read_text("utf-8"))["records"]
    records = [StressRecord.from_json(value) for value in values]
    # A background of its own: pages may be dark.
    figure = stress_figure(records)
    figure.set_facecolor("white")
    # Letters as letters: drawn as curves they are two thirds of the file.
    with mpl.rc_context({"svg.fonttype": "none"}):
        PICTURE.write_text(svg(figure) + "\n", "utf-8")


if __name__ == "__main__":
    main()

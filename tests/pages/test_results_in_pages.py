"""Tables of the pages that a command prints: the page has what the committed results have."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_plan_of_a_billion_texts_is_the_one_that_its_command_prints():
    rows = json.loads((ROOT / "benchmarks" / "results" / "scale_plan.json").read_text("utf-8"))[
        "rows"
    ]
    page = (ROOT / "docs" / "clusters.md").read_text("utf-8")
    assert len(rows) > 8
    for row in rows:
        assert f"| {' | '.join(row)} |" in page

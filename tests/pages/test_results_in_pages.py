"""Tables of the pages that a command prints: the page has what the committed results have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def test_the_plan_of_a_billion_texts_is_the_one_that_its_command_prints():
    rows = results("scale_plan")["rows"]
    text = page("clusters.md")
    assert len(rows) > 8
    for row in rows:
        assert f"| {' | '.join(row)} |" in text


def test_what_explanations_name_is_what_was_measured():
    text = page("answers.md")
    falls = results("explanations")["falls"]
    assert len(falls) == 5
    for head in falls.values():
        cells = []
        for way in ("effect", "weight", "random"):
            mean, low, high = head[way]
            cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})".replace("0.", "."))
        assert f" | {' | '.join(cells)} |" in text

"""What summary.json says of a run."""

from __future__ import annotations

import json

import pytest
from support.head_runs import run


@pytest.mark.parametrize("task", ["classes", "pairs", "scores", "score"])
def test_summary_keeps_its_contract(stores, tmp_path, task):
    summary = run(stores[task], tmp_path / "run")
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary) >= {
        "task",
        "pooler",
        "seed",
        "store",
        "selected_on",
        "validation",
        "majority",
        "parameters",
        "seconds",
        "examples_per_second",
        "steps",
        "compilations",
    }
    names = ["accuracy", "f1"] if task in ("classes", "pairs") else ["spearman", "pearson"]
    assert (
        set(summary["validation"]["best"])
        == set(summary["validation"]["last"])
        == {*names, "loss", "epoch"}
    )
    assert set(summary["majority"]) == set(names)
    assert summary["baselines"]["validation"] == {
        name: summary[name] for name in ("majority", "length")
    }
    assert summary["selected_on"] == "validation"
    assert summary["validation"]["last"]["epoch"] == 2
    assert summary["steps"] == 10
    assert set(summary["seconds"]) == {"compile", "train", "evaluate"}
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if line["split"] == "train"] == [2, 4, 5, 6, 8, 10]
    assert [line["step"] for line in lines if line["split"] == "validation"] == [5, 10]
    assert all(
        set(line) >= {"step", "epoch", "split", "loss"} and "time" not in line for line in lines
    )
    score = max(line[names[0]] for line in lines if line["split"] == "validation")
    assert summary["validation"]["best"][names[0]] == score


def test_parameters_are_counted_from_the_tree(stores, tmp_path):
    summary = run(stores["pairs"], tmp_path / "run", epochs=1)
    dim, hidden, scorer = 8, 8, 8
    width = dim + 2 * hidden
    gat = dim * hidden + hidden * hidden + 2 * 3 * hidden
    assert summary["parameters"] == {
        "pooler": gat + width * scorer + 2 * scorer + 1,
        "head": 2 * width * 2 + 2,
    }

"""Scores of a report as CSV and LaTeX."""

from __future__ import annotations

import csv
import io

import pytest
from support.head_runs import config
from support.synthetic_stores import make_store

from glot_jax import cli
from glot_jax.config.train import PoolerConfig
from glot_jax.files import read_json
from glot_jax.run_tables.score_files import scores_csv, scores_latex
from glot_jax.training import train_seeds


def entry(variant, split="test", **changes):
    return {
        "variant": variant,
        "split": split,
        "mean": 0.5,
        "deviation": 0.01,
        "seeds": 3,
        "last": 0.49,
        "interval": [0.4, 0.6],
        "difference": None,
        "holm_p": None,
        "learned": None,
        "selected_here": False,
        "parameters": 10,
        "train_seconds": 1.5,
        **changes,
    }


def comparison(*entries):
    return {
        "task": "a_task",
        "backbone": "some & more",
        "metric": "f1",
        "reference": "mean",
        "variants": list(entries),
    }


BETTER = {"value": -0.2, "interval": None, "p": 0.001, "p_seeds": 0.002}


def test_csv_has_a_line_for_each_variant_and_split():
    table = comparison(
        entry("mean"),
        entry('glot, "tau" 0.3', mean=0.7, difference=BETTER, holm_p=0.004, learned=[0.7, None, 2]),
    )
    rows = list(csv.DictReader(io.StringIO(scores_csv([table, table]))))
    assert len(rows) == 4
    assert rows[0]["difference"] == rows[0]["p_holm"] == ""
    assert rows[0]["learned"] == "3"
    assert rows[1]["variant"] == 'glot, "tau" 0.3'
    # How much better it is, not how much worse the reference is.
    assert float(rows[1]["difference"]) == 0.2
    assert (rows[1]["p_rows"], rows[1]["p_holm"], rows[1]["learned"]) == ("0.001", "0.004", "2")
    assert (rows[1]["low"], rows[1]["high"]) == ("0.4", "0.6")


def test_latex_is_bold_only_where_p_says_so():
    better = entry("glot", mean=0.7, difference=BETTER, holm_p=0.004)
    text = scores_latex([comparison(entry("mean"), better)])
    assert r"glot & \textbf{0.700} {\small$\pm$ 0.010} & 0.004 \\" in text
    chance = entry("glot", mean=0.7, difference=BETTER, holm_p=0.4)
    assert r"\textbf" not in scores_latex([comparison(entry("mean"), chance)])
    # It differs, but is not the highest.
    worse = entry("glot", mean=0.3, difference=BETTER, holm_p=0.004)
    assert r"\textbf" not in scores_latex([comparison(entry("mean"), worse)])


def test_latex_is_escaped_and_has_a_column_for_each_split():
    text = scores_latex(
        [comparison(entry("50%_{x}", deviation=None), entry("50%_{x}", "validation"))]
    )
    assert r"50\%\_\{x\} & 0.500 & 0.500 {\small$\pm$ 0.010} &  \\" in text
    assert r"\begin{tabular}{lrrr}" in text
    assert r"% a\_task, some \& more" in text
    assert " & test f1 & validation f1 & $p$ (Holm)" in text


def test_the_command_writes_both(tmp_path, capsys):
    store = make_store(tmp_path / "store", rows={"train": 60, "validation": 30})
    for pooler in ("mean", "glot"):
        settings = PoolerConfig(pooler=pooler, hidden_dim=8, scorer_dim=8)
        runs = config(store, tmp_path / "runs" / pooler, pooler=settings)
        train_seeds(runs, [1, 2], quiet=True)
    out = tmp_path / "report"
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(tmp_path / "runs"), "--out", str(out), "--csv", "--latex"])
    assert ended.value.code == 0
    assert "scores.csv, scores.tex" in capsys.readouterr().err
    comparisons = read_json(out / "scores.json")["comparisons"]
    assert (out / "scores.csv").read_text() == scores_csv(comparisons)
    assert (out / "scores.tex").read_text() == scores_latex(comparisons)
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert {row["variant"] for row in rows} == {"mean", "glot"}

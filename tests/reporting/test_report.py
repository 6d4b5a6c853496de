"""`glot report` on runs trained here: every number on the page is one of the folders, and bad
folders are explained.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from support.synthetic_stores import CLASSES, SCORES, make_store

from glot_jax import cli
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.objectives import METRICS
from glot_jax.reporting import paper
from glot_jax.reporting.comparison import compare_runs, find_runs
from glot_jax.reporting.pages import (
    Figure,
    Heading,
    Listing,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)
from glot_jax.reporting.report import Sentence, write_report
from glot_jax.reporting.tables import PaperTables
from glot_jax.training import train, train_seeds
from glot_jax.training.run_folder import Summary

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tasks; mean, adapool and two glots; two seeds of the glots."""
    folder = tmp_path_factory.mktemp("report")
    for name, spec in (("classes", CLASSES), ("scores", SCORES)):
        store = make_store(
            folder / "stores" / name,
            spec,
            rows=(
                {"train": 24, "validation": 24, "test": 24}
                if name == "classes"
                else {"train": 24, "validation": 12}
            ),
        )
        for label, pooler, graph in (
            ("mean", "mean", {}),
            ("adapool", "adapool", {}),
            ("glot", "glot", {}),
            ("tight", "glot", {"tau": 0.9}),
        ):
            if name == "scores" and label == "tight":
                continue
            config = TrainConfig(
                store=store,
                out=folder / "runs" / name / label,
                epochs=2,
                batch_size=8,
                buckets=1,
                graph=GraphConfig(**graph),
                pooler=PoolerConfig(pooler=pooler, hidden_dim=8, num_layers=1),
                objective=ObjectiveConfig(
                    select_on="holdout" if name == "classes" else "validation"
                ),
            )
            (
                train_seeds(config, [1, 2], quiet=True)
                if label in ("glot", "tight")
                else train(config, quiet=True)
            )
    return folder


def test_variants_are_named_by_what_tells_them_apart(folder):
    runs, notes = find_runs([folder / "runs"])
    assert len(runs) == 2 * (1 + 1 + 2) + 2
    assert notes == []
    classes, scores = sorted(compare_runs(runs), key=lambda of: len(of.variants), reverse=True)
    assert {of.label: len(of.runs) for of in classes.variants} == {
        "mean": 1,
        "adapool": 1,
        "glot, tau 0.6": 2,
        "glot, tau 0.9": 2,
    }
    assert {of.label: len(of.runs) for of in scores.variants} == {
        "mean": 1,
        "adapool": 1,
        "glot": 2,
    }
    assert classes.splits == ("validation", "test")
    assert scores.splits == ("validation",)
    # Of each split its own rows count.
    summary = classes.variants[0].runs[0].summary
    for split in classes.splits:
        labels = classes.variants[0].predictions(split)[0].labels
        commonest = np.full(
            len(labels),
            (
                1
                if summary.baselines["validation"]["majority"]["accuracy"]
                == np.mean(classes.variants[0].predictions("validation")[0].labels == 1)
                else 0
            ),
        )
        assert classes.baselines(split)["majority"] == pytest.approx(
            METRICS[classes.metric](commonest, labels)
        )
        assert set(classes.baselines(split)) == {"majority", "length"}
    old = []
    for run in runs:
        # Earlier versions wrote the baselines of the validation split alone.
        values = json.loads((run.path / "summary.json").read_text())
        del values["baselines"]
        old.append(dataclasses.replace(run, summary=Summary.from_json(values)))
    earlier = max(compare_runs(old), key=lambda of: len(of.variants))
    assert earlier.baselines("validation") == classes.baselines("validation")
    assert earlier.baselines("test") == {}
    # Seeds and places make no other variant; a run found twice counts once.
    assert compare_runs(runs + runs) == compare_runs(runs)


def test_predictions_of_a_run_give_its_scores(folder):
    for run in find_runs([folder / "runs"])[0]:
        for split, of in run.predictions.items():
            assert METRICS[run.metric](of.predictions, of.labels) == pytest.approx(
                run.summary.splits[split].best[run.metric]
            )
            assert list(of.rows) == sorted(of.rows)


def test_the_page_says_what_the_folders_say(folder, tmp_path):
    rng = np.random.default_rng(0)
    sentence = Sentence("a b c", ("a", "b", "c"), rng.normal(size=(3, 8)).astype(np.float32))
    values = write_report(
        [folder / "runs"],
        tmp_path / "out",
        sentences=[sentence],
        resamples=100,
        remarks=["`table9` is <missing>"],
    )
    page, text = (
        (tmp_path / "out" / "report.html").read_text(),
        (tmp_path / "out" / "report.md").read_text(),
    )
    assert values == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert "<code>table9</code> is &lt;missing&gt;" in page
    # One file: nothing is fetched, nothing runs.
    assert not re.search(r"<script|<link|@import|src=|href=\"(?!#|data:)", page)
    for comparison in values["comparisons"]:
        for one in comparison["variants"]:
            seeds = one["seed_scores"]
            assert one["mean"] == pytest.approx(np.mean(seeds))
            assert f"{one['mean']:.3f}" in page
            assert f"{one['mean']:.3f}" in text
            if one["interval"]:
                low, high = one["interval"]
                assert low <= one["mean"] <= high
                # The table has the interval of the split that nothing selected.
                assert (f"[{low:.3f}, {high:.3f}]" in page) or one["split"] == "validation"
    by_task = {of["task"] + of["metric"]: of for of in values["comparisons"]}
    scores = next(of for of in by_task.values() if of["metric"] == "spearman")
    assert all(
        one["interval"] is None and "12 rows: too few" in one["why"] for one in scores["variants"]
    )
    # Scores selected on the split they are reported on are marked, the others are not.
    assert all(one["selected_here"] for one in scores["variants"])
    assert "†" in page
    assert not any(
        one["selected_here"]
        for of in by_task.values()
        if of is not scores
        for one in of["variants"]
    )
    for name in ("scores", "curves", "tokens0", "graph0"):
        assert f"figures/{name}.svg" in text
        ET.fromstring((tmp_path / "out" / "figures" / f"{name}.svg").read_text())
    assert ">c<" in page or "c" in text


def test_names_inside_figures_do_not_meet():
    drawn = '<svg><defs><path id="a"/></defs><use href="#a" clip-path="url(#a)"/></svg>'
    page = to_html("T", [Heading("One"), Figure("x", drawn, "first"), Figure("y", drawn, "second")])
    assert page.count('id="x-a"') == page.count('id="y-a"') == 1
    assert 'href="#x-a" clip-path="url(#x-a)"' in page


def test_both_pages_hold_the_same_table():
    table = Table(("a|b", "n"), (("x", "1"), ("<y>", "2")), "why", best=((1, 1),), faint=(0,))
    blocks = [Heading("H", 3), Paragraph("see `code`"), Listing(("one",)), table]
    assert "| a\\|b | n |" in to_markdown("T", blocks)
    assert "| <y> | **2** |" in to_markdown("T", blocks)
    html = to_html("T", blocks)
    assert "<td>&lt;y&gt;</td><td class=best>2</td>" in html
    assert "<tr class=faint><td>x</td>" in html


def test_the_papers_numbers_are_those_of_the_paper():
    # Rows and columns of its tables 1, 4, 7, 8 and 11, and the aliases of its plain GLOT.
    assert sum(len(rows) for rows in paper.TABLES["table1"].values()) == 30
    assert paper.TABLES["table1"]["BERT"]["glot"]["cola"] == 47.49
    assert paper.TABLES["table7"]["Mistral-7B"]["glot"] == {
        "0.2": 99.2,
        "0.5": 97.6,
        "0.8": 97.4,
        "0.9": 97.2,
    }
    assert PaperTables(("table8",), "BERT").number("glot", "stsb") == 83.86
    assert PaperTables(("table11",), "BERT").number("glot", "cola") == 47.49
    assert PaperTables(("table4", "table8"), "BERT").number("glot, tau 0.2", "rte") == 50.90
    assert PaperTables(("table1",), "BERT").number("sage", "cola") is None
    scores = paper.z_scores(paper.TABLES["table1"]["BERT"])
    for column in paper.TABLES["table1"]["BERT"]["glot"]:
        values = [of[column] for of in scores.values()]
        np.testing.assert_allclose([np.mean(values), np.std(values)], [0, 1], atol=1e-12)
    # Of GLOT on BERT, as Figure 4 shows it: far above the mean of the methods on CoLA.
    assert scores["glot"]["cola"] == pytest.approx(
        (47.49 - np.mean([22.66, 19.55, 15.79, 29.20, 47.49]))
        / np.std([22.66, 19.55, 15.79, 29.20, 47.49])
    )


def test_what_cannot_be_reported_is_explained(folder, tmp_path, capsys):
    with pytest.raises(UsageError, match="finished runs; got none in"):
        write_report([folder / "stores"], tmp_path / "out")
    with pytest.raises(UsageError, match="which is none"):
        find_runs([tmp_path / "nowhere"])
    old = tmp_path / "old"
    shutil.copytree(folder / "runs" / "classes" / "mean", old)
    saved = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**saved, "format": 1}))
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(old), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "a run folder must be of format 2; got" in capsys.readouterr().err
    # Beside readable runs it is a line on the page; so is one that is not finished.
    unfinished = tmp_path / "both" / "unfinished"
    shutil.copytree(folder / "runs" / "classes" / "glot" / "seed-1", unfinished)
    (unfinished / "summary.json").unlink()
    shutil.copytree(folder / "runs" / "classes" / "mean", tmp_path / "both" / "mean")
    (tmp_path / "both" / "mean" / "predictions.npz").unlink()
    values = write_report([tmp_path / "both"], tmp_path / "out", resamples=100)
    assert "train.py --resume" in values["remarks"][0]
    assert all("no predictions.npz" in one["why"] for one in values["comparisons"][0]["variants"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out is a folder"):
        write_report([tmp_path / "both"], tmp_path / "file", resamples=100)

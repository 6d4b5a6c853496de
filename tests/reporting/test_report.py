"""`glot report` on runs trained here.

Every number on the page is one of the folders, and bad folders are explained.
"""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from glot_jax import cli
from glot_jax.errors import UsageError
from glot_jax.reporting.report import ReportOptions, write_report
from glot_jax.reporting.token_section import Sentence

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


def test_the_page_says_what_the_folders_say(folder, tmp_path):
    rng = np.random.default_rng(0)
    sentence = Sentence("a b c", ("a", "b", "c"), rng.normal(size=(3, 8)).astype(np.float32))
    options = ReportOptions(sentences=[sentence], resamples=100, remarks=["`table9` is <missing>"])
    values = write_report([folder / "runs"], tmp_path / "out", options)
    page = (tmp_path / "out" / "report.html").read_text()
    text = (tmp_path / "out" / "report.md").read_text()
    assert values == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert "<code>table9</code> is &lt;missing&gt;" in page
    # One file: nothing is fetched, nothing runs.
    assert not re.search(r"<script|<link|@import|src=|href=\"(?!#|data:)", page)
    for comparison in values["comparisons"]:
        first = "test" if comparison["metric"] != "spearman" else "validation"
        for variant in comparison["variants"]:
            assert variant["mean"] == pytest.approx(np.mean(variant["seed_scores"]))
            assert f"{variant['mean']:.3f}" in page
            assert f"{variant['mean']:.3f}" in text
            if variant["interval"] is None:
                continue
            low, high = variant["interval"]
            assert low <= variant["mean"] <= high
            # The table has the intervals of the split that nothing selected.
            if variant["split"] == first:
                assert f"[{low:.3f}, {high:.3f}]" in page
    for name in ("scores", "curves", "tokens0", "graph0"):
        assert f"figures/{name}.svg" in text
        ET.fromstring((tmp_path / "out" / "figures" / f"{name}.svg").read_text())
    # The sentence is quoted below the figure of its tokens.
    assert '"a b c"' in text


def test_scores_selected_on_their_own_split_are_marked(folder, tmp_path):
    values = write_report([folder / "runs"], tmp_path / "out", ReportOptions(resamples=100))
    for comparison in values["comparisons"]:
        selected = {variant["selected_here"] for variant in comparison["variants"]}
        assert selected == {comparison["metric"] == "spearman"}
        if comparison["metric"] == "spearman":
            for variant in comparison["variants"]:
                assert variant["interval"] is None
                assert "12 rows: too few" in variant["why"]
    assert "†" in (tmp_path / "out" / "report.html").read_text()


def test_what_cannot_be_reported_is_explained(folder, tmp_path, capsys):
    with pytest.raises(UsageError, match="finished runs; got none in"):
        write_report([folder / "stores"], tmp_path / "out")
    old = tmp_path / "old"
    shutil.copytree(folder / "runs" / "classes" / "mean", old)
    saved = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({**saved, "format": 1}))
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(old), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "a run folder must be of format 2 or 3; got" in capsys.readouterr().err
    # Beside readable runs it is a line on the page; so is one that is not finished.
    unfinished = tmp_path / "both" / "unfinished"
    shutil.copytree(folder / "runs" / "classes" / "glot" / "seed-1", unfinished)
    (unfinished / "summary.json").unlink()
    shutil.copytree(folder / "runs" / "classes" / "mean", tmp_path / "both" / "mean")
    (tmp_path / "both" / "mean" / "predictions.npz").unlink()
    values = write_report([tmp_path / "both"], tmp_path / "out", ReportOptions(resamples=100))
    assert "train.py --resume" in values["remarks"][0]
    for variant in values["comparisons"][0]["variants"]:
        assert "no predictions.npz" in variant["why"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="must be writable"):
        write_report([tmp_path / "both"], tmp_path / "file", ReportOptions(resamples=100))

"""Finished runs are read from their folders alone."""

from __future__ import annotations

import json
import shutil

import pytest
from support.typed import present

from glot_jax.errors import UsageError
from glot_jax.objectives import METRICS
from glot_jax.reporting.finished_runs import find_runs, read_run

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


def test_predictions_of_a_run_give_its_scores(folder):
    for run in find_runs([folder / "runs"])[0]:
        for split, kept in present(run.predictions).items():
            score = METRICS[run.metric](kept.predictions, kept.labels)
            assert score == pytest.approx(run.summary.splits[split].best[run.metric])
            assert list(kept.rows) == sorted(kept.rows)


def test_every_run_is_found_once_whatever_folders_are_given(folder):
    runs, notes = find_runs([folder / "runs"])
    assert len(runs) == 2 * (1 + 1 + 2) + 2
    assert notes == []
    (run,), _ = find_runs([folder / "runs" / "classes" / "mean"])
    assert run.path == folder / "runs" / "classes" / "mean"


def test_a_curve_has_a_point_for_each_epoch(folder):
    run = read_run(folder / "runs" / "classes" / "mean")
    points = run.curve("validation", run.metric)
    assert [epoch for epoch, _ in points] == [1, 2]
    assert points[-1][1] == pytest.approx(run.summary.splits["validation"].last[run.metric])
    assert run.curve("validation", "spearman") == []


def test_a_split_that_selected_its_own_epoch_is_told(folder):
    assert read_run(folder / "runs" / "scores" / "mean").selected_here == "validation"
    assert read_run(folder / "runs" / "classes" / "mean").selected_here is None


def test_what_is_not_a_finished_run_is_explained(folder, tmp_path):
    with pytest.raises(UsageError, match="which is not a folder"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="finished runs; got none in"):
        find_runs([folder / "stores"])
    copied = tmp_path / "unfinished"
    shutil.copytree(folder / "runs" / "classes" / "mean", copied)
    (copied / "summary.json").unlink()
    with pytest.raises(UsageError, match="train.py --resume"):
        read_run(copied)
    shutil.copytree(folder / "runs" / "classes" / "mean", tmp_path / "mean")
    saved = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**saved, "format": 1}))
    runs, notes = find_runs([tmp_path])
    assert [run.path.name for run in runs] == ["mean"]
    assert "format 1" in notes[0]

"""`--calibrate`: a temperature beside the run, and not a byte else."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from support.dispatches import dying_at
from support.head_runs import config, run
from support.synthetic_stores import CLASSES, LABELS, SCORE, make_store

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.files import read_json
from glot_jax.objectives.class_scores import calibration
from glot_jax.objectives.probabilities import nll
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.training import train
from glot_jax.training.evaluation import judge_run

pytestmark = pytest.mark.xdist_group("calibration")  # what they share is made once

ROWS = {"train": 60, "validation": 12}
HOLDOUT = ObjectiveConfig(select_on="holdout")
CALIBRATE = dataclasses.replace(HOLDOUT, calibrate=True)


@pytest.fixture(scope="module", params=["classes", "labels"])
def runs(request, tmp_path_factory):
    """A folder with the runs `plain` and `calibrated` of one store."""
    folder = tmp_path_factory.mktemp(request.param)
    spec = {"classes": CLASSES, "labels": LABELS}[request.param]
    make_store(folder / "store", spec, rows=ROWS)
    run(folder / "store", folder / "plain", objective=HOLDOUT)
    run(folder / "store", folder / "calibrated", objective=CALIBRATE)
    return folder


def test_without_it_nothing_is_said_of_it(runs):
    values = read_json(runs / "plain" / "config.json")
    assert "temperature" not in values
    assert "calibrate" not in values["config"]["objective"]
    assert "calibration" not in read_json(runs / "plain" / "summary.json")
    assert RunFolder.open(runs / "plain").temperature is None


def test_with_it_all_that_was_trained_is_the_same(runs):
    for name in ("metrics.jsonl", "predictions.npz"):
        calibrated = (runs / "calibrated" / name).read_bytes()
        assert calibrated == (runs / "plain" / name).read_bytes()
    plain = judge_run(runs / "plain", quiet=True)
    for split, judged in judge_run(runs / "calibrated", quiet=True).items():
        assert judged.scores == plain[split].scores
        np.testing.assert_array_equal(judged.outputs, plain[split].outputs)


def test_the_temperature_is_the_likeliest_on_the_holdout(runs):
    summary = read_json(runs / "calibrated" / "summary.json")["calibration"]
    folder = RunFolder.open(runs / "calibrated")
    assert folder.temperature == summary["temperature"] > 0
    judged = judge_run(runs / "calibrated", quiet=True)
    holdout = judged["holdout"]
    assert holdout.temperature == folder.temperature
    task = folder.model.task
    labels = holdout.predictions.labels
    assert summary["rows"] == len(labels)
    assert summary["nll_before"] == pytest.approx(nll(holdout.outputs, labels, task))
    after = nll(holdout.outputs, labels, task, folder.temperature)
    assert summary["nll_after"] == pytest.approx(after)
    assert after <= summary["nll_before"]
    # Of rows that nobody has fitted to, both are measured.
    other = judged["validation"]
    measured = calibration(other.outputs, other.predictions.labels, task, folder.temperature)
    assert np.isfinite([measured.ece, measured.brier]).all()


def test_a_run_that_lost_its_summary_fits_the_same_temperature(runs):
    before = (runs / "calibrated" / "config.json").read_bytes()
    summary = read_json(runs / "calibrated" / "summary.json")
    (runs / "calibrated" / "summary.json").unlink()
    settings = config(runs / "store", runs / "calibrated", objective=CALIBRATE)
    again = train(settings, resume=True, quiet=True)
    assert again["calibration"] == summary["calibration"]
    assert (runs / "calibrated" / "config.json").read_bytes() == before


def test_a_run_that_is_trained_further_has_no_temperature_until_it_ends(
    runs, tmp_path, monkeypatch
):
    store, out = runs / "store", tmp_path / "run"
    shutil.copytree(runs / "calibrated", out)
    assert RunFolder.open(out).temperature is not None
    longer = config(store, out, objective=CALIBRATE, epochs=4)
    dying_at(monkeypatch, 9)
    with pytest.raises(KeyboardInterrupt):
        train(longer, resume=True, quiet=True)
    monkeypatch.undo()
    # Its head may be another one by now.
    assert RunFolder.open(out).temperature is None
    ended = train(longer, resume=True, quiet=True)
    whole = run(store, tmp_path / "whole", objective=CALIBRATE, epochs=4)
    assert ended["calibration"] == whole["calibration"]
    assert RunFolder.open(out).temperature == whole["calibration"]["temperature"]


@pytest.mark.parametrize("temperature", [0, -1, True, "2", float("inf")])
def test_a_temperature_that_is_none_is_told(runs, tmp_path, temperature):
    values = read_json(runs / "calibrated" / "config.json")
    text = json.dumps({**values, "temperature": temperature})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match="must be a positive number"):
        RunFolder.open(tmp_path)


def test_what_has_no_holdout_or_no_classes_is_refused_before_anything_is_written(tmp_path):
    make_store(tmp_path / "classes", rows=ROWS)
    make_store(tmp_path / "scores", SCORE, rows=ROWS)
    with pytest.raises(UsageError, match=r"on the holdout.*Give --select-on holdout"):
        run(tmp_path / "classes", tmp_path / "out", objective=ObjectiveConfig(calibrate=True))
    with pytest.raises(UsageError, match="needs a task with classes"):
        run(tmp_path / "scores", tmp_path / "out", objective=CALIBRATE)
    assert not (tmp_path / "out").exists()

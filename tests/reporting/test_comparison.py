"""Which runs are variants of one comparison, what they are called, what their baselines are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.typed import present

from glot_jax.objectives import METRICS
from glot_jax.reporting.comparison import Comparison, compare_runs
from glot_jax.reporting.finished_runs import FinishedRun, find_runs
from glot_jax.run_folders.run_folder import Summary

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[FinishedRun]:
    return find_runs([folder / "runs"])[0]


def compared(runs: list[FinishedRun]) -> tuple[Comparison, Comparison]:
    """(classes, scores): the former has more variants."""
    first, second = compare_runs(runs)
    return (first, second) if len(first.variants) > len(second.variants) else (second, first)


def test_variants_are_named_by_what_tells_them_apart(runs):
    classes, scores = compared(runs)
    assert {variant.label: len(variant.runs) for variant in classes.variants} == {
        "mean": 1,
        "adapool": 1,
        "glot, tau 0.6": 2,
        "glot, tau 0.9": 2,
    }
    assert {variant.label: len(variant.runs) for variant in scores.variants} == {
        "mean": 1,
        "adapool": 1,
        "glot": 2,
    }
    assert classes.splits == ("validation", "test")
    assert scores.splits == ("validation",)


def with_buckets(run: FinishedRun, buckets: int, path: Path | None = None) -> FinishedRun:
    config = dataclasses.replace(run.config, buckets=buckets)
    folder = dataclasses.replace(run.folder, config=config, path=path or run.path)
    return dataclasses.replace(run, folder=folder)


def test_what_a_run_chose_by_its_steps_names_no_variant_unless_nothing_else_does(runs):
    chosen = [with_buckets(run, 1 + (run.config.pooler.pooler == "glot")) for run in runs]
    for before, after in zip(compared(runs), compared(chosen), strict=True):
        assert [v.label for v in after.variants] == [v.label for v in before.variants]
    mean = next(run for run in runs if run.config.pooler.pooler == "mean")
    twice = [with_buckets(mean, 1), with_buckets(mean, 2, mean.path / "again")]
    (comparison,) = compare_runs(twice)
    assert {v.label for v in comparison.variants} == {"mean, buckets 1", "mean, buckets 2"}


def test_seeds_and_places_make_no_other_variant(runs):
    # A run that is found twice counts once.
    assert compare_runs(runs + runs) == compare_runs(runs)


def test_the_callers_names_come_first_and_in_the_callers_order(runs, folder):
    labels = {
        folder / "runs" / "classes" / "mean": "second",
        folder / "runs" / "classes" / "adapool": "first",
    }
    ordered = dict(reversed(labels.items()))
    classes, _ = compared_by_size(compare_runs(runs, ordered))
    assert [variant.label for variant in classes.variants][:2] == ["first", "second"]


def compared_by_size(comparisons: Sequence[Comparison]) -> list[Comparison]:
    return sorted(comparisons, key=lambda comparison: len(comparison.variants), reverse=True)


def test_baselines_are_of_the_rows_of_each_split(runs):
    classes, _ = compared(runs)
    baselines = classes.variants[0].runs[0].summary.baselines
    labels = {
        split: present(classes.variants[0].predictions(split))[0].labels for split in classes.splits
    }
    # The commonest class of train: the share of its rows is the accuracy on any split.
    positive = np.mean(labels["validation"] == 1)
    commonest = int(baselines["validation"]["majority"]["accuracy"] == positive)
    for split, of_split in labels.items():
        guesses = np.full(len(of_split), commonest)
        expected = METRICS[classes.metric](guesses, of_split)
        assert classes.baselines(split)["majority"] == pytest.approx(expected)
        assert set(classes.baselines(split)) == {"majority", "length"}


def test_earlier_versions_knew_the_baselines_of_one_split(runs):
    old = []
    for run in runs:
        values = json.loads((run.path / "summary.json").read_text())
        del values["baselines"]
        old.append(dataclasses.replace(run, summary=Summary.from_json(values)))
    classes, _ = compared(runs)
    earlier, _ = compared(old)
    assert earlier.baselines("validation") == classes.baselines("validation")
    assert earlier.baselines("test") == {}

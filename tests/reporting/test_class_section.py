"""Precision, recall, F1 and confusion of each class."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from support.head_runs import config
from support.synthetic_stores import SCORES, make_store

from glot_jax.config.train import PoolerConfig
from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.pages import Heading
from glot_jax.reporting.report import write_report
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_section import class_section
from glot_jax.reporting.tables import Table
from glot_jax.training import train_seeds


def result_of(folder, reference=None):
    runs, _ = find_runs([folder])
    (comparison,) = compare_runs(runs)
    return Result.from_comparison(comparison, reference, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    store = make_store(root / "store", rows={"train": 80, "validation": 30})
    for pooler in ("mean", "glot"):
        settings = PoolerConfig(pooler=pooler, hidden_dim=8, scorer_dim=8)
        train_seeds(config(store, root / "runs" / pooler, pooler=settings), [1, 2], quiet=True)
    return root / "runs"


def of_scikit_learn(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """[4, classes]: precision, recall, F1 and rows."""
    # Its stubs know texts alone.
    options: Any = {"zero_division": 0}
    scores = precision_recall_fscore_support(labels, predictions, labels=[0, 1], **options)
    return np.array(scores, np.float64)


def test_they_are_those_of_scikit_learn(folder):
    result = result_of(folder, "mean")
    blocks = class_section(result)
    assert isinstance(blocks[0], Heading)
    tables = [block for block in blocks if isinstance(block, Table)]
    labels = list(dict.fromkeys([result.best.variant, "mean"]))
    assert len(tables) == 2 * len(labels)
    for label, table, confusion in zip(labels, tables[::2], tables[1::2], strict=True):
        seeds = result.variant(label).predictions("validation")
        assert seeds is not None
        by_seed = [of_scikit_learn(seed.labels, seed.predictions) for seed in seeds]
        expected = np.mean(by_seed, axis=0)
        for index, row in enumerate(table.rows):
            name, support, *scores = (cell.text for cell in row)
            assert name == ("no", "yes")[index]
            assert int(support) == expected[3][index]
            assert [float(score) for score in scores] == pytest.approx(
                expected[:3, index], abs=5e-4
            )
        matrices = [confusion_matrix(seed.labels, seed.predictions) for seed in seeds]
        counts = np.sum(matrices, axis=0)
        shown = [[int(cell.text) for cell in row[1:]] for row in confusion.rows]
        assert shown == counts.tolist()


def test_the_report_has_them_and_runs_without_classes_do_not(folder, tmp_path):
    write_report([folder], tmp_path / "report")
    assert "custom: by class" in (tmp_path / "report" / "report.md").read_text()
    store = make_store(tmp_path / "store", SCORES)
    train_seeds(config(store, tmp_path / "scores"), [1], quiet=True)
    assert class_section(result_of(tmp_path / "scores")) == []


def test_runs_without_predictions_have_none(folder):
    result = result_of(folder)
    for variant in result.comparison.variants:
        for run in variant.runs:
            # As of a version that did not keep them.
            vars(run)["predictions"] = None
    assert class_section(dataclasses.replace(result)) == []

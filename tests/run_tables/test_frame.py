"""Runs as a pandas table."""

from __future__ import annotations

import json
import sys

import pytest
from support.head_runs import config
from support.synthetic_stores import make_store

import glot_jax
from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.training import train, train_seeds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("frame")
    store = make_store(root / "store", rows={"train": 60, "validation": 20, "test": 20})
    train_seeds(config(store, root / "runs" / "glot", epochs=3), [1, 2], quiet=True)
    mean = PoolerConfig(pooler="mean", hidden_dim=8)
    train(config(store, root / "runs" / "mean", pooler=mean), quiet=True)
    return root / "runs"


def test_a_row_a_run_with_settings_scores_and_health(folder):
    frame = glot_jax.read_runs(folder)
    assert [run.rpartition("runs/")[2] for run in frame["run"]] == [
        "glot/seed-1",
        "glot/seed-2",
        "mean",
    ]
    assert list(frame["seed"]) == [1, 2, 42]
    assert list(frame["pooler"]) == ["glot", "glot", "mean"]
    # The mean reads no threshold.
    assert list(frame["tau"].isna()) == [False, False, True]
    assert set(frame["layer"]) == {2}
    for row in frame.to_dict("records"):
        summary = json.loads((folder / row["run"] / "summary.json").read_text())
        for split in ("validation", "test"):
            assert row[f"best.{split}.accuracy"] == summary[split]["best"]["accuracy"]
            assert row[f"last.{split}.loss"] == summary[split]["last"]["loss"]
            scores = row[f"epochs.{split}.accuracy"]
            assert len(scores) == (2 if row["pooler"] == "mean" else 3)
            assert scores[-1] == summary[split]["last"]["accuracy"]
        assert row["epoch"] == summary["validation"]["best"]["epoch"]
        assert row["health"] == [entry["name"] for entry in summary["health"]]
        assert row["seconds.train"] == summary["seconds"]["train"]
    # As tables are used.
    by_pooler = frame.groupby("pooler").size()
    assert by_pooler.to_dict() == {"glot": 2, "mean": 1}


def test_several_folders_and_what_is_none(folder, tmp_path):
    assert len(glot_jax.read_runs([folder / "mean", str(folder / "glot")])) == 3
    with pytest.raises(UsageError, match="a report must be of finished runs"):
        glot_jax.read_runs(tmp_path)


def test_without_pandas_one_line_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="read_runs needs pandas.*pip install pandas"):
        glot_jax.read_runs(folder)

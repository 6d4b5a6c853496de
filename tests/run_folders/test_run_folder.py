"""A run folder, opened: config.json in and out, the summary by its nouns, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import runs
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.run_folders.run_folder import Imported, RunFolder, SplitScores, Summary
from glot_jax.store.recipe import Recipe
from glot_jax.training import train
from glot_jax.training.evaluation import evaluate_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("run_folder")
    store = make_store(place / "store")
    train(runs.config(store, place / "run"), quiet=True)
    return place / "run"


def change(run: Path, target: Path, **values: object) -> Path:
    """A copy of the run with other values in its config.json."""
    shutil.copytree(run, target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


def test_config_json_is_written_as_it_was_read(finished, tmp_path):
    folder = RunFolder.open(finished)
    assert folder.to_json() == json.loads((finished / "config.json").read_text())
    assert folder.config == runs.saved_config(finished)
    dataclasses.replace(folder, path=tmp_path).write()
    assert (tmp_path / "config.json").read_bytes() == (finished / "config.json").read_bytes()


def test_the_digest_tells_runs_apart_and_not_where_they_lie(finished, tmp_path):
    digest = RunFolder.open(finished).digest()
    values = json.loads((finished / "config.json").read_text())
    moved = {**values["config"], "out": "elsewhere", "store": "elsewhere"}
    assert RunFolder.open(change(finished, tmp_path / "moved", config=moved)).digest() == digest
    other = {**values["config"], "seed": 1}
    assert RunFolder.open(change(finished, tmp_path / "other", config=other)).digest() != digest


def test_an_older_config_has_the_defaults_of_what_it_does_not_know(finished, tmp_path):
    config = json.loads((finished / "config.json").read_text())["config"]
    del config["log_every"]
    older = RunFolder.open(change(finished, tmp_path / "older", config=config))
    assert older.config.log_every == type(older.config).__dataclass_fields__["log_every"].default


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 1}, "format 1. Train again with this version"),
        ({"format": None}, "format None"),
        ({"model": {"dim": 8}}, "config.json: KeyError 'layers'"),
        ({"config": {}}, "TrainConfig must have a field store"),
    ],
)
def test_what_is_not_a_run_folder_is_refused(finished, tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        RunFolder.open(change(finished, tmp_path / "run", **values))


def test_a_folder_without_config_json_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected a run folder"):
        RunFolder.open(tmp_path)


def test_the_summary_has_the_numbers_of_summary_json(finished):
    values = json.loads((finished / "summary.json").read_text())
    summary = RunFolder.open(finished).require_finished()
    assert list(summary.splits) == ["validation"]
    assert summary.splits["validation"].best == values["validation"]["best"]
    assert summary.splits["validation"].at("last") == values["validation"]["last"]
    assert summary.selecting is summary.splits["validation"]
    assert summary.reported_baselines["majority"] == values["majority"]
    assert summary.trained_parameters == sum(values["parameters"].values()) > 0
    assert summary.seconds["train"] > 0


def test_an_earlier_summary_knows_the_baselines_of_its_validation_split():
    scores = {"best": {"mcc": 0.5}, "last": {"mcc": 0.25}}
    summary = Summary.from_json(
        {
            "task": "cola",
            "pooler": "mean",
            "selected_on": "holdout",
            "holdout": {"best": {"mcc": 0.75}, "last": {"mcc": 0.5}},
            "validation": scores,
            "majority": {"mcc": 0.0},
            "parameters": {"pooler": 0, "head": 3},
        }
    )
    assert summary.baselines == {"validation": {"majority": {"mcc": 0.0}}}
    assert summary.selecting == SplitScores({"mcc": 0.75}, {"mcc": 0.5})


def test_a_run_that_is_not_finished_is_refused(finished, tmp_path):
    unfinished = change(finished, tmp_path / "run")
    (unfinished / "summary.json").unlink()
    with pytest.raises(UsageError, match=r"must be finished.*train\.py --resume"):
        RunFolder.open(unfinished).require_finished()


def test_an_imported_run_has_no_head(finished, tmp_path):
    imported = Imported("glot.pth", "0" * 64, "gat", "cat", 0.5)
    source = dataclasses.asdict(imported)
    folder = RunFolder.open(change(finished, tmp_path / "run", imported=source, recipe={}))
    assert folder.imported == imported
    assert folder.to_json()["imported"] == source
    with pytest.raises(UsageError, match=r"imported without either.*--store STORE --out NEW"):
        folder.require_head()
    # It does not know how its states were made.
    assert folder.fits(Recipe.partial(backbone={"name": "any"})) == []


def test_only_what_decides_the_states_of_its_layers_must_fit(finished):
    folder = RunFolder.open(finished)
    recipe = folder.recipe.extended(more={"seed": -1}, storage_dtype="int8")
    assert folder.fits(recipe) == []
    backbone = {"name": "renamed", "sha256": "0" * 64, "revision": None}
    recipe = recipe.extended(backbone=backbone)
    assert folder.fits(recipe) == []
    recipe = recipe.extended(backbone={**backbone, "sha256": "1" * 64}, prompt="a {text}")
    differences = folder.fits(recipe)
    assert [line.partition(":")[0] for line in differences] == ["backbone.sha256", "prompt"]


def test_a_model_is_loaded_whether_or_not_its_parts_look_at_what_they_draw(finished, monkeypatch):
    folder = RunFolder.open(finished)
    expected = jax.tree.leaves(nnx.state(folder.load_model()))
    build = RunFolder.new_model
    sums = []

    def looking(folder: RunFolder):
        model = build(folder)
        drawn = jax.tree.leaves(nnx.state(model, nnx.Param))
        sums.append(float(sum(jnp.sum(array) for array in drawn)))
        return model

    monkeypatch.setattr(RunFolder, "new_model", looking)
    arrays = jax.tree.leaves(nnx.state(folder.load_model()))
    # With shapes alone it fails, and is built once more.
    assert len(sums) == 1
    assert len(arrays) == len(expected) > 0
    for array, other in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_the_keyword_of_the_version_before_still_works(finished):
    with pytest.warns(DeprecationWarning, match=r"which=.* is checkpoint="):
        scores = evaluate_run(finished, which="last", quiet=True)  # pyright: ignore[reportCallIssue]
    assert scores == evaluate_run(finished, checkpoint="last", quiet=True)

"""What is checked before a run begins."""

from __future__ import annotations

import dataclasses
import json

import pytest
from support.head_runs import config, run
from support.synthetic_stores import CLASSES, PAIRS, make_store

from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
)
from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.training import train
from glot_jax.training.evaluation import evaluate_run
from glot_jax.training.prepare import prepare


def test_other_settings_are_refused_field_by_field(stores, tmp_path):
    run(stores["classes"], tmp_path / "run", epochs=1)
    changed = config(
        stores["classes"],
        tmp_path / "run",
        epochs=1,
        batch_size=4,
        optimizer=OptimizerConfig(lr=0.5),
    )
    with pytest.raises(
        UsageError, match=r"config.batch_size: 8 -> 4; config.optimizer.lr: 0.01 -> 0.5"
    ):
        train(changed, resume=True, quiet=True)
    other = make_store(tmp_path / "other", CLASSES, seed=9)
    with pytest.raises(UsageError, match=r"recipe.seed: 0 -> 9; store: '"):
        train(config(other, tmp_path / "run", epochs=1), resume=True, quiet=True)
    wide = make_store(tmp_path / "wide", CLASSES, dim=16, kind="decoder")
    with pytest.raises(
        UsageError,
        match="the store must fit the trained head; got dim: 8 -> 16; kind: 'encoder' -> 'decoder'",
    ):
        evaluate_run(tmp_path / "run", store=wide, quiet=True)
    with pytest.raises(UsageError, match="--out must be a new folder.*--resume"):
        run(stores["classes"], tmp_path / "run", epochs=1)


def test_a_store_without_labels_is_refused(tmp_path):
    silent = dataclasses.replace(
        CLASSES, label_column=None, label_kind="none", classes=(), metrics=()
    )
    store = make_store(tmp_path / "store", silent)
    with pytest.raises(UsageError, match="training needs labels"):
        run(store, tmp_path / "run")


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_a_damaged_shard_is_found_before_anything_is_written(tmp_path, cache):
    store = make_store(tmp_path / "store", CLASSES)
    bad = next((store / "train" / "shard-00001").glob("hidden-*"))
    content = bytearray(bad.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    with pytest.raises(UsageError, match=str(bad)):
        run(store, tmp_path / "run", cache=cache)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pooler": PoolerConfig(pooler="gloot")},
            "unknown pooler .* 'gloot'. Known: adapool, adapool-attention, cls, first, glot",
        ),
        ({"pooler": PoolerConfig(gnn="gatt")}, "unknown GNN layer .* 'gatt'. Known: gat"),
        ({"graph": GraphConfig(backend="fast")}, "unknown graph backend"),
        ({"graph": GraphConfig(graph="tree")}, "unknown graph rule"),
        ({"objective": ObjectiveConfig(metric="bleu")}, "got --metric bleu"),
        ({"objective": ObjectiveConfig(metric="mcc")}, "judged by: accuracy, f1; got --metric mcc"),
        ({"layer": 1}, "layer 1.*Stored: 2"),
        ({"optimizer": OptimizerConfig(warmup_steps=99)}, "within the run's 10 steps"),
    ],
)
def test_bad_settings_leave_no_folder(stores, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        run(stores["classes"], tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_interaction_of_three_texts_is_refused(tmp_path):
    three = dataclasses.replace(
        PAIRS, text_columns=("a", "b", "c"), roles=("text0", "text1", "text2")
    )
    store = make_store(tmp_path / "store", three)
    with pytest.raises(UsageError, match="interaction must be used with two texts"):
        run(store, tmp_path / "run", objective=ObjectiveConfig(pair_features="interaction"))
    assert run(store, tmp_path / "run")["steps"] == 10


def test_the_number_of_buckets_is_that_of_the_store_and_written_down(stores, tmp_path):
    settings = config(stores["classes"], tmp_path / "run", buckets=None)
    counts = set()
    for seed in (1, 2, 3):
        # Another holdout each.
        objective = ObjectiveConfig(select_on="holdout")
        seeded = dataclasses.replace(settings, seed=seed, objective=objective)
        counts.add(prepare(seeded, Display(quiet=True)).config.buckets)
    assert len(counts) == 1
    assert None not in counts
    many = prepare(dataclasses.replace(settings, epochs=1_000_000), Display(quiet=True))
    assert many.config.buckets not in counts
    train(settings, quiet=True)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["config"]["buckets"]
    assert {saved} == counts

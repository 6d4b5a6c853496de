"""The linear probe sees the vectors that the head sees."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import LinearSVC
from support.synthetic_stores import PAIRS, SCORES, make_store
from support.typed import of_kind

from glot_jax import cli
from glot_jax.config.train import ObjectiveConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.linear_probe import linear_probe, split_features
from glot_jax.objectives.heads import FeatureHead
from glot_jax.training import train
from glot_jax.training.evaluation import load_model, open_run


def trained(folder, spec=None, **changes):
    store = make_store(
        folder / "store", *([spec] if spec else []), rows={"train": 120, "validation": 40}
    )
    settings = {
        "pooler": PoolerConfig(pooler="adapool"),
        "optimizer": OptimizerConfig(lr=1e-2),
        "epochs": 2,
        "buckets": 1,
        "batch_size": 16,
        **changes,
    }
    train(TrainConfig(store=store, out=folder / "run", **settings), quiet=True)
    return folder / "run"


@pytest.mark.parametrize("kind", ["concat", "interaction"])
def test_features_are_what_the_head_multiplies(tmp_path, kind):
    run = trained(tmp_path, PAIRS, objective=ObjectiveConfig(pair_features=kind))
    prepared, state = open_run(run, quiet=True)
    features, labels = split_features(prepared, state, "validation")
    head = of_kind(load_model(run).head, FeatureHead)
    scores = head.linear(jnp.asarray(features))
    feed = prepared.feeds["validation"]
    expected = np.concatenate(
        [
            np.asarray(prepared.steps.evaluate(state, batch)["outputs"])
            for _, batch in feed.batches(0, feed.plan.steps_per_epoch)
        ]
    )
    np.testing.assert_allclose(scores, expected[: len(scores)], atol=1e-5)
    assert len(features) == len(labels) == 40


def test_probe_separates_what_can_be_separated_and_says_how_well(tmp_path, capsys):
    run = trained(tmp_path)
    probe = linear_probe(run, quiet=True)["validation"]
    prepared, state = open_run(run, quiet=True)
    (features, labels), (others, truth) = (
        split_features(prepared, state, split) for split in ("train", "validation")
    )
    mean, deviation = features.mean(0), features.std(0)
    machine = LinearSVC(C=probe["C"], dual="auto", random_state=0).fit(
        (features - mean) / deviation, labels
    )
    assert probe["accuracy"] == pytest.approx(
        np.mean(machine.predict((others - mean) / deviation) == truth)
    )
    assert probe["accuracy"] > 0.6
    capsys.readouterr()
    assert cli.COMMANDS["evaluate"]([str(run), "--linear-probe", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["validation"]
    assert shown["linear_probe"] == probe
    assert {"accuracy", "f1", "loss"} <= set(shown)


def test_scores_cannot_be_separated(tmp_path):
    run = trained(tmp_path, SCORES)
    with pytest.raises(UsageError, match="a linear probe needs classes"):
        linear_probe(run, quiet=True)

"""Options beyond the paper through whole runs.

Mixing, standardising, dropout, learned threshold, mlp, and refusals.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from support.synthetic_stores import CLASSES, PAIRS, make_store
from support.typed import of_kind, present

from glot_jax.batches.state_statistics import state_statistics
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError
from glot_jax.pooling import POOLERS, Mlp, count_parameters
from glot_jax.pooling.layers import TokenLinear
from glot_jax.pooling.options import unread_options
from glot_jax.run_folders.run_log import Display
from glot_jax.store import HiddenStore
from glot_jax.training import loop, train
from glot_jax.training.evaluation import evaluate_run, load_model
from glot_jax.training.prepare import prepare

LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(
        tmp_path_factory.mktemp("store") / "store", PAIRS, layers=LAYERS, empty_rows=[3]
    )


def config(store: Path, out: Path, *, graph: dict | None = None, **changes) -> TrainConfig:
    top = {
        name: changes.pop(name)
        for name in ("layer", "mix_layers", "cache", "epochs")
        if name in changes
    }
    return TrainConfig(
        store=store,
        out=out,
        **{"epochs": 2, **top},
        batch_size=8,
        eval_batch_size=8,
        buckets=2,
        log_every=2,
        graph=GraphConfig(tau=0.5, **(graph or {})),
        pooler=PoolerConfig(**{"hidden_dim": 8, "scorer_dim": 8, **changes}),
        optimizer=OptimizerConfig(lr=1e-2),
    )


def run(*arguments, **changes) -> dict:
    return train(config(*arguments, **changes), quiet=True)


EVERYTHING = {
    "mix_layers": (),
    "standardise": True,
    "dropout": 0.2,
    "attention_dropout": 0.2,
    "residual": True,
    "virtual_node": True,
    "projection_dim": 6,
    "graph": {"learn_tau": True},
}


@pytest.mark.parametrize(
    "changes",
    [EVERYTHING, {"gnn": "gin", "dropout": 0.2, "standardise": True}],
    ids=["everything", "gin"],
)
def test_a_resumed_run_is_the_undisturbed_one(store, tmp_path, monkeypatch, changes):
    """Dropped entries, temperature, statistics and running averages all follow the step."""
    whole = run(store, tmp_path / "whole", **changes)
    calls = []

    def stop_in_the_second_epoch(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluated(*arguments)

    evaluated = loop.evaluate_all
    monkeypatch.setattr(loop, "evaluate_all", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path / "cut", **changes)
    monkeypatch.undo()
    again = train(config(store, tmp_path / "cut", **changes), resume=True, quiet=True)
    assert again["validation"] == whole["validation"]
    assert (tmp_path / "cut" / "metrics.jsonl").read_bytes() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_bytes()
    for a, b in zip(
        *(
            jax.tree.leaves(nnx.state(load_model(tmp_path / name, "last")))
            for name in ("whole", "cut")
        ),
        strict=True,
    ):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "changes", [EVERYTHING, {"graph": {"graph": "knn"}}], ids=["everything", "knn"]
)
def test_the_dense_step_has_no_scatter_whatever_is_switched_on(store, tmp_path, changes):
    prepared = prepare(config(store, tmp_path / "run", **changes), Display(quiet=True))
    prepared.steps.train(prepared.state, prepared.feeds["train"].batch(0))
    (executable,) = prepared.steps.executables.finished().values()
    assert " scatter(" not in present(of_kind(executable, jax.stages.Compiled).as_text())


def test_a_loaded_model_knows_mix_threshold_and_statistics(store, tmp_path):
    summary = run(store, tmp_path / "run", **EVERYTHING)
    model = load_model(tmp_path / "run", "last")
    weights = np.asarray(model.stem.layer_weights())
    assert abs(weights.sum() - 1) < 1e-6
    assert np.ptp(weights) > 1e-4
    assert float(present(model.stem.tau)[...]) != 0.5
    reader = HiddenStore(store, layers=LAYERS)["train"]
    tokens = np.concatenate([reader.states(text) for text in range(reader._record.texts)]).astype(
        np.float64
    )
    np.testing.assert_allclose(present(model.stem.mean)[...], tokens.mean(0), atol=1e-5)
    np.testing.assert_allclose(present(model.stem.deviation)[...], tokens.std(0), rtol=1e-5)
    parts = [count_parameters(part) for part in (model.stem, model.pooler, model.head)]
    assert summary["parameters"] == {"pooler": parts[0] + parts[1], "head": parts[2]}
    assert parts[0] == 3 + 1 + 8 * 6  # layer scores, tau, projection
    assert (
        evaluate_run(tmp_path / "run", checkpoint="last", quiet=True)["validation"]["loss"]
        == summary["validation"]["last"]["loss"]
    )


@pytest.mark.usefixtures("users_programs")
@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_mixed_layers_are_the_same_from_every_cache(store, tmp_path, cache):
    expected = run(store, tmp_path / "auto", mix_layers=(0, 2), epochs=1)
    found = run(store, tmp_path / cache, mix_layers=(0, 2), epochs=1, cache=cache)
    assert found["validation"] == expected["validation"]


def test_a_mixed_head_is_scored_on_another_store_by_its_own_layers(tmp_path):
    """A store with more layers, shorter texts and other statistics.

    It changes neither layers nor what was trained.
    """
    rows = {"train": 24, "validation": 8}
    small = make_store(tmp_path / "small", CLASSES, rows=rows, layers=(1, 2, 3))
    other = make_store(
        tmp_path / "other", CLASSES, rows=rows, layers=(0, 1, 2, 3), longest=4, seed=5
    )
    for store in (small, other):  # the same model made both, as far as a manifest tells
        manifest = json.loads((store / "manifest.json").read_text())
        assert manifest["recipe"]["backbone"]["name"] == "synthetic"
    run(
        small,
        tmp_path / "run",
        mix_layers=(),
        standardise=True,
        epochs=1,
        graph={"graph": "knn", "k": 6},
    )
    scores = evaluate_run(tmp_path / "run", store=other, checkpoint="last", quiet=True)
    assert np.isfinite(scores["validation"]["loss"])
    assert (
        evaluate_run(tmp_path / "run", checkpoint="last", quiet=True)["validation"]["loss"]
        != scores["validation"]["loss"]
    )


def test_statistics_leave_the_holdout_out(store, tmp_path):
    reader = HiddenStore(store)["train"]
    rows = np.array([0, 5, 9])
    texts = reader.row_texts.reshape(-1, 2)[rows].reshape(-1)
    tokens = np.concatenate([reader.states(int(text)) for text in texts]).astype(np.float64)
    mean, deviation = state_statistics(reader, rows)
    np.testing.assert_allclose(mean, tokens.mean(0))
    np.testing.assert_allclose(deviation, tokens.std(0))
    settings = config(store, tmp_path / "run", standardise=True, epochs=1)
    settings = dataclasses.replace(settings, objective=ObjectiveConfig(select_on="holdout"))
    train(settings, quiet=True)
    trained = prepare(settings, Display(quiet=True)).feeds["train"].plan.rows
    assert len(trained) == len(reader) - len(reader) // 10
    expected = state_statistics(reader, trained)
    model = load_model(tmp_path / "run")
    np.testing.assert_allclose(present(model.stem.mean)[...], expected[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(present(model.stem.deviation)[...], expected[1], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gnn": "gin"},
        {"gnn": "sage", "jk": "max"},
        {"heads": 4, "edge_term": True},
        {"num_layers": 0},
        {"num_layers": 4, "jk": "none"},
    ],
)
def test_mlp_is_as_large_as_the_glot_it_stands_in_for(changes):
    sizes = {"hidden_dim": 32, **changes}
    glot, pooler = (
        POOLERS[name].from_config(
            48, PoolerConfig(pooler=name, **sizes), kind="encoder", rngs=nnx.Rngs(0)
        )
        for name in ("glot", "mlp")
    )
    mlp = of_kind(pooler, Mlp)
    matched = present(mlp.matched)
    assert matched == count_parameters(glot)
    if changes.get("num_layers") == 0:
        assert count_parameters(mlp) == matched
        return
    # The width on either side is no nearer.
    width = of_kind(mlp.gnn.layers[0], TokenLinear).kernel.shape[1]
    for other in (width - 1, width + 1):
        scorer = mlp.readout.kernel.shape[1]
        beside = Mlp(
            48,
            other,
            sizes.get("num_layers", 2),
            jk=sizes.get("jk", "cat"),
            scorer_dim=scorer,
            rngs=nnx.Rngs(0),
        )
        assert abs(count_parameters(beside) - matched) >= abs(count_parameters(mlp) - matched)
    assert not mlp.uses_edges


def test_the_count_of_the_mlp_is_printed(store, tmp_path, capsys):
    train(config(store, tmp_path / "run", pooler="mlp", epochs=1))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    printed = capsys.readouterr().err
    assert f"mlp: {summary['parameters']['pooler']:,} parameters, to match the" in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"graph": {"graph": "knn", "k": 64}},
            r"--k must be at most the longest padded text, 12 tokens; got 64",
        ),
        ({"mix_layers": (2,)}, "--mix-layers must mix two or more layers; got layer 2 alone"),
        ({"mix_layers": (2, -1)}, r"--mix-layers must be different from one another; got \(2, 2\)"),
        ({"mix_layers": (0, 7)}, "a layer must be stored to be read; got layer 7. Stored: 0, 1, 2"),
        (
            {"pooler": "adapool-attention", "heads": 3},
            "--heads must divide the width of the states; got 3 heads for 8. Divisors: 1, 2, 4, 8",
        ),
    ],
)
def test_what_only_the_store_can_tell_is_refused_before_anything_is_written(
    store, tmp_path, changes, message
):
    with pytest.raises(UsageError, match=message):
        run(store, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: PoolerConfig(heads=3, hidden_dim=8),
            "--heads must divide --hidden-dim; got 3 heads for 8. Divisors: 1, 2, 4, 8",
        ),
        (
            lambda: PoolerConfig(jk="max", num_layers=0),
            "got --jk max --num-layers 0. With --num-layers 0 use --jk cat or none",
        ),
        (
            lambda: PoolerConfig(pooler="mlp", jk="mean", num_layers=0),
            "got --jk mean --num-layers 0",
        ),
        (lambda: PoolerConfig(dropout=1.0), r"--dropout must be a share in \[0, 1\); got 1.0"),
        (
            lambda: PoolerConfig(attention_dropout=-0.1),
            r"--attention-dropout must be a share in \[0, 1\); got -0.1",
        ),
        (lambda: GraphConfig(tau=1.2), r"--tau must be a cosine in \[-1, 1\]; got 1.2"),
        (
            lambda: TrainConfig(store=Path("s"), out=Path("o"), layer=1, mix_layers=(1, 2)),
            "only one may be given",
        ),
        (
            lambda: TrainConfig(store=Path("s"), out=Path("o"), mix_layers=(1, 1)),
            "--mix-layers must have values that differ from one another",
        ),
    ],
)
def test_impossible_combinations_are_refused_where_they_are_born(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("graph", "pooler", "read", "unread"),
    [
        (
            {},
            {},
            {"tau", "heads", "attention_dropout"},
            {"k", "window", "graph_seed", "temperature"},
        ),
        ({"backend": "dense"}, {}, {"tau"}, {"edge_budget"}),
        (
            {"graph": "knn"},
            {"gnn": "sage"},
            {"k", "residual"},
            {"tau", "heads", "edge_term", "attention_dropout", "learn_tau"},
        ),
        ({"graph": "random"}, {}, {"tau", "graph_seed"}, {"k", "window"}),
        ({"graph": "window"}, {}, {"window"}, {"tau", "k"}),
        ({"learn_tau": True}, {}, {"temperature", "tau"}, {"k"}),
        (
            {},
            {"pooler": "mlp"},
            {"gnn", "hidden_dim", "jk", "scorer_dim"},
            {"graph", "tau", "residual", "backend"},
        ),
        ({}, {"pooler": "adapool-attention"}, {"heads"}, {"gnn", "scorer_dim", "tau"}),
        (
            {},
            {"num_layers": 0},
            {"jk", "num_layers", "scorer_dim"},
            {"graph", "tau", "gnn", "heads", "residual"},
        ),
        (
            {},
            {"pooler": "mean"},
            set(),
            {"graph", "tau", "gnn", "hidden_dim", "heads", "residual", "scorer_dim"},
        ),
    ],
)
def test_options_that_nothing_reads_are_known(graph, pooler, read, unread):
    found = unread_options(GraphConfig(**graph), PoolerConfig(**pooler))
    assert unread <= set(found)
    assert not read & set(found)

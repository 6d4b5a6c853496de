"""Training runs on synthetic stores: resuming, selection, caches, compilations, and what stops a
run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from support.synthetic_stores import CLASSES, PAIRS, SCORE, SCORES, make_store

from glot_jax.config.json import from_json, to_json
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph
from glot_jax.objectives import evaluate
from glot_jax.training import edge_budgets, loop, steps, train, train_seeds
from glot_jax.training.checkpoint import Checkpoints
from glot_jax.training.evaluation import evaluate_run, load_model
from glot_jax.training.prepare import prepare
from glot_jax.training.run_log import Display
from glot_jax.training.workspace import Workspace


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    specs = {"classes": CLASSES, "pairs": PAIRS, "scores": SCORES, "score": SCORE}
    return {name: make_store(folder / name, spec) for name, spec in specs.items()}


def config(store: Path, out: Path, **changes) -> TrainConfig:
    settings = {
        "epochs": 2,
        "batch_size": 8,
        "eval_batch_size": 8,
        "buckets": 2,
        "log_every": 2,
        "pooler": PoolerConfig(hidden_dim=8, scorer_dim=8),
        "optimizer": OptimizerConfig(lr=1e-2),
        **changes,
    }
    return TrainConfig(store=store, out=out, **settings)


def run(store: Path, out: Path, **changes) -> dict:
    return train(config(store, out, **changes), quiet=True)


def arrays(run: Path) -> list[np.ndarray]:
    """Every array of the latest checkpoint."""
    like = prepare(
        from_json(TrainConfig, json.loads((run / "config.json").read_text())["config"]),
        Display(quiet=True),
    ).state
    with Checkpoints(run) as checkpoints:
        state = checkpoints.load(checkpoints.latest_step, like)
    state["key"] = jax.random.key_data(state["key"])
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize("task", ["classes", "pairs", "scores", "score"])
def test_summary_keeps_its_contract(stores, tmp_path, task):
    summary = run(stores[task], tmp_path / "run")
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary) >= {
        "task",
        "pooler",
        "seed",
        "store",
        "selected_on",
        "validation",
        "majority",
        "parameters",
        "seconds",
        "examples_per_second",
        "steps",
        "compilations",
    }
    names = ["accuracy", "f1"] if task in ("classes", "pairs") else ["spearman", "pearson"]
    assert (
        set(summary["validation"]["best"])
        == set(summary["validation"]["last"])
        == {*names, "loss", "epoch"}
    )
    assert set(summary["majority"]) == set(names)
    assert summary["baselines"]["validation"] == {
        name: summary[name] for name in ("majority", "length")
    }
    assert summary["selected_on"] == "validation"
    assert summary["validation"]["last"]["epoch"] == 2
    assert summary["steps"] == 10
    assert set(summary["seconds"]) == {"compile", "train", "evaluate"}
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines if line["split"] == "train"] == [2, 4, 5, 6, 8, 10]
    assert [line["step"] for line in lines if line["split"] == "validation"] == [5, 10]
    assert all(
        set(line) >= {"step", "epoch", "split", "loss"} and "time" not in line for line in lines
    )
    score = max(line[names[0]] for line in lines if line["split"] == "validation")
    assert summary["validation"]["best"][names[0]] == score


def test_parameters_are_counted_from_the_tree(stores, tmp_path):
    summary = run(stores["pairs"], tmp_path / "run", epochs=1)
    dim, hidden, scorer = 8, 8, 8
    width = dim + 2 * hidden
    gat = dim * hidden + hidden * hidden + 2 * 3 * hidden
    assert summary["parameters"] == {
        "pooler": gat + width * scorer + 2 * scorer + 1,
        "head": 2 * width * 2 + 2,
    }


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(stores["pairs"], folder, epochs=3)
    return folder


@pytest.mark.parametrize("stop_at", [1, 5, 12])
def test_resuming_equals_never_having_stopped(stores, undisturbed, tmp_path, monkeypatch, stop_at):
    original, done = steps.Steps.train, []

    def dying(self, state, batch):
        if len(done) == stop_at:
            raise KeyboardInterrupt
        done.append(1)
        return original(self, state, batch)

    monkeypatch.setattr(steps.Steps, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        run(stores["pairs"], tmp_path / "stopped", epochs=3)
    assert not (tmp_path / "stopped" / "summary.json").exists()
    monkeypatch.setattr(steps.Steps, "train", original)
    whole = json.loads((undisturbed / "summary.json").read_text())
    resumed = train(
        config(stores["pairs"], tmp_path / "stopped", epochs=3), resume=True, quiet=True
    )
    assert resumed["validation"] == whole["validation"]
    assert (tmp_path / "stopped" / "metrics.jsonl").read_bytes() == (
        undisturbed / "metrics.jsonl"
    ).read_bytes()
    for a, b in zip(arrays(tmp_path / "stopped"), arrays(undisturbed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resuming_a_finished_run_changes_nothing(stores, tmp_path):
    first = run(stores["classes"], tmp_path / "run")
    again = train(config(stores["classes"], tmp_path / "run"), resume=True, quiet=True)
    assert again == first
    # Killed between the last checkpoint and the summary: the summary is written, from the log.
    (tmp_path / "run" / "summary.json").unlink()
    again = train(config(stores["classes"], tmp_path / "run"), resume=True, quiet=True)
    assert (again["validation"], again["steps"]) == (first["validation"], first["steps"])


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


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(stores, tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(stores["classes"], tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in "abc")
    assert a == b != c


def test_device_host_and_disk_feed_the_same_numbers(stores, tmp_path):
    for cache in ("device", "host", "none"):
        run(stores["pairs"], tmp_path / cache, cache=cache)
    device, host, none = (
        (tmp_path / cache / "metrics.jsonl").read_bytes() for cache in ("device", "host", "none")
    )
    assert device == host == none


def test_sparse_trains_like_dense(stores, tmp_path):
    losses = {}
    for backend in ("dense", "sparse"):
        run(stores["classes"], tmp_path / backend, graph=GraphConfig(backend=backend))
        losses[backend] = [
            json.loads(line)["loss"]
            for line in (tmp_path / backend / "metrics.jsonl").read_text().splitlines()
        ]
    np.testing.assert_allclose(losses["sparse"], losses["dense"], atol=1e-4)


def test_an_edge_budget_that_is_too_small_stops_the_run(stores, tmp_path):
    with pytest.raises(
        UsageError, match=r"at most 16 edges; got .* too many. Give --edge-budget \d+ or more"
    ) as raised:
        run(
            stores["classes"],
            tmp_path / "run",
            graph=GraphConfig(backend="sparse", graph="complete", edge_budget=16),
        )
    enough = int(raised.value.fix.split()[2])
    assert enough & (enough - 1) == 0
    run(
        stores["classes"],
        tmp_path / "enough",
        graph=GraphConfig(backend="sparse", graph="complete", edge_budget=8 * 12 * 12),
    )


@pytest.mark.parametrize("backend", ["dense", "sparse"])
def test_one_executable_per_bucket_and_step(stores, tmp_path, backend):
    counts = [
        run(stores["classes"], tmp_path / name, epochs=epochs, graph=GraphConfig(backend=backend))[
            "compilations"
        ]
        for epochs, name in [(1, "short"), (3, "long")]
    ]
    assert counts == [
        3,
        3,
    ]  # training at two lengths; validation's few short rows join its long ones


def test_training_traces_the_step_once_per_shape(stores, tmp_path, monkeypatch):
    traced = []
    original = steps._forward

    def counting(graphdef, task, params, stats, batch, edge_budget, **training):
        traced.append((batch.hidden.shape, bool(training)))
        return original(graphdef, task, params, stats, batch, edge_budget, **training)

    monkeypatch.setattr(steps, "_forward", counting)
    run(stores["classes"], tmp_path / "run", epochs=3)
    assert len(traced) == len(set(traced)) == 3, f"traced again: {traced}"


def test_the_step_has_no_scatter(stores, tmp_path):
    prepared = prepare(config(stores["pairs"], tmp_path / "run"), Display(quiet=True))
    batch = prepared.feeds["train"].batch(0)
    prepared.steps.train(prepared.state, batch)
    (executable,) = prepared.steps.executables.values()
    assert " scatter(" not in executable.as_text()
    sparse = prepare(
        config(stores["pairs"], tmp_path / "run", graph=GraphConfig(backend="sparse")),
        Display(quiet=True),
    )
    sparse.steps.train(sparse.state, batch)
    (executable,) = sparse.steps.executables.values()
    assert " scatter(" in executable.as_text()  # the test can fail


def test_a_loss_that_is_not_finite_stops_and_names_its_rows(stores, tmp_path, monkeypatch):
    original = steps._forward

    def poisoned(graphdef, task, params, stats, batch, edge_budget, **training):
        outputs, losses, stats, dropped = original(
            graphdef, task, params, stats, batch, edge_budget, **training
        )
        return (
            outputs,
            losses * np.float32("nan") if training and batch.hidden.shape[1] == 12 else losses,
            stats,
            dropped,
        )

    monkeypatch.setattr(steps, "_forward", poisoned)
    with pytest.raises(
        UsageError, match=r"finite at every step.*that is not at step \d+, training rows \[\d"
    ):
        run(stores["classes"], tmp_path / "run")


def test_after_a_bad_step_nothing_is_updated(stores, tmp_path, monkeypatch):
    prepared = prepare(config(stores["classes"], tmp_path / "run"), Display(quiet=True))
    batch = prepared.feeds["train"].batch(0)
    bad = dataclasses.replace(batch, hidden=batch.hidden * np.float16("nan"))
    state, _ = prepared.steps.train(prepared.state, batch)
    kept = [np.array(leaf) for leaf in jax.tree.leaves((state["params"], state["opt_state"]))]
    state, logs = prepared.steps.train(state, bad)
    state, _ = prepared.steps.train(state, batch)
    assert np.isnan(logs["loss"])
    assert int(state["first_bad_step"]) == 1
    assert int(state["step"]) == 3
    for a, b in zip(jax.tree.leaves((state["params"], state["opt_state"])), kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_best_and_latest_reload_with_their_scores(stores, tmp_path):
    summary = run(stores["classes"], tmp_path / "run", epochs=6, optimizer=OptimizerConfig(lr=5e-2))
    for which in ("best", "last"):
        again = evaluate_run(tmp_path / "run", checkpoint=which, quiet=True)["validation"]
        expected = {
            name: value for name, value in summary["validation"][which].items() if name != "epoch"
        }
        assert again == pytest.approx(expected, abs=1e-6)
    model = load_model(tmp_path / "run")
    prepared = prepare(config(stores["classes"], tmp_path / "x", epochs=6), Display(quiet=True))
    feed = prepared.feeds["validation"]
    outputs, labels = [], []
    for step in range(feed.plan.steps_per_epoch):
        batch = feed.batch(step)
        outputs.append(np.asarray(model(batch))[batch.row_mask])
        labels.append(batch.labels[batch.row_mask])
    scores = evaluate(np.concatenate(outputs), np.concatenate(labels), prepared.task)
    assert scores["accuracy"] == summary["validation"]["best"]["accuracy"]


def test_best_is_the_earliest_highest_epoch(stores, tmp_path):
    summary = run(stores["classes"], tmp_path / "run", epochs=8, optimizer=OptimizerConfig(lr=2e-2))
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    scores = [line["accuracy"] for line in lines if line["split"] == "validation"]
    assert summary["validation"]["best"]["epoch"] == scores.index(max(scores)) + 1
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.best_step == 5 * (scores.index(max(scores)) + 1)
        assert checkpoints.latest_step == 40


def test_holdout_is_never_trained_on(stores, tmp_path):
    prepared = prepare(
        config(stores["classes"], tmp_path / "run", objective=ObjectiveConfig(select_on="holdout")),
        Display(quiet=True),
    )
    held, trained = (set(prepared.feeds[name].plan.rows.tolist()) for name in ("holdout", "train"))
    assert len(held) == 4
    assert held | trained == set(range(40))
    assert not held & trained
    summary = run(
        stores["classes"], tmp_path / "run", objective=ObjectiveConfig(select_on="holdout")
    )
    assert summary["selected_on"] == "holdout"
    assert {"holdout", "validation"} <= set(summary)


def test_without_a_validation_split_the_holdout_is_reported_as_one(tmp_path):
    store = make_store(tmp_path / "store", CLASSES, rows={"train": 40, "test": 10})
    summary = run(store, tmp_path / "run")
    assert summary["selected_on"] == "holdout"
    assert {"validation", "test"} <= set(summary)
    assert set(summary["test"]["best"]) == {"accuracy", "f1", "loss", "epoch"}


def test_last_selects_the_last_epoch(stores, tmp_path):
    summary = run(stores["classes"], tmp_path / "run", objective=ObjectiveConfig(select_on="last"))
    assert summary["selected_on"] == "last"
    assert summary["validation"]["best"] == summary["validation"]["last"]


def test_a_gradient_that_is_not_finite_changes_nothing(stores, tmp_path, monkeypatch):
    prepared = prepare(config(stores["classes"], tmp_path / "run"), Display(quiet=True))
    monkeypatch.setattr(steps.optax.tree, "norm", lambda tree: float("nan"))
    before = [np.array(leaf) for leaf in jax.tree.leaves(prepared.state["params"])]
    state, logs = prepared.steps.train(prepared.state, prepared.feeds["train"].batch(0))
    assert np.isfinite(logs["loss"])
    assert int(state["first_bad_step"]) == 0
    for a, b in zip(jax.tree.leaves(state["params"]), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_store_without_labels_is_refused(tmp_path):
    silent = dataclasses.replace(
        CLASSES, label_column=None, label_kind="none", classes=(), metrics=()
    )
    store = make_store(tmp_path / "store", silent)
    with pytest.raises(UsageError, match="training needs labels"):
        run(store, tmp_path / "run")


def test_last_without_a_validation_split_still_reports_a_holdout(tmp_path):
    store = make_store(tmp_path / "store", CLASSES, rows={"train": 40})
    summary = run(store, tmp_path / "run", objective=ObjectiveConfig(select_on="last"))
    assert summary["selected_on"] == "last"
    assert summary["validation"]["best"] == summary["validation"]["last"]


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_a_split_of_empty_texts_alone(tmp_path, cache):
    store = make_store(
        tmp_path / "store", CLASSES, rows={"train": 2, "validation": 4}, empty_rows=[0, 1], shards=1
    )
    lines = run(store, tmp_path / "run", cache=cache, epochs=1)
    assert np.isfinite(lines["validation"]["best"]["loss"])


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


def test_where_states_wait_may_change_on_resume(stores, tmp_path):
    first = run(stores["classes"], tmp_path / "run", cache="device")
    (tmp_path / "run" / "summary.json").unlink()
    again = train(
        config(stores["classes"], tmp_path / "run", cache="none"), resume=True, quiet=True
    )
    assert again["validation"] == first["validation"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["cache"] == "none"


def test_evaluation_refuses_a_store_that_was_made_anew(tmp_path):
    store = make_store(tmp_path / "store", CLASSES)
    run(store, tmp_path / "run", epochs=1)
    for path in sorted(store.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    make_store(tmp_path / "store", CLASSES, seed=3)
    with pytest.raises(UsageError, match="made anew since"):
        evaluate_run(tmp_path / "run", quiet=True)
    assert "validation" in evaluate_run(tmp_path / "run", store=store, quiet=True)


def test_a_full_disk_says_how_to_continue(stores, tmp_path, monkeypatch):
    def full(self, **values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop.RunLog, "metrics", full)
    with pytest.raises(UsageError, match="No space left on device. Make room.*--resume"):
        run(stores["classes"], tmp_path / "run")


def test_seeds_into_the_folder_of_a_single_run_are_refused(stores, tmp_path):
    run(stores["classes"], tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match="a run of its own"):
        train_seeds(config(stores["classes"], tmp_path / "run", epochs=1), [1])


def test_seconds_of_all_processes_add_up(stores, tmp_path, monkeypatch):
    original, done = steps.Steps.train, []

    def dying(self, state, batch):
        done.append(1)
        if len(done) == 8:
            raise KeyboardInterrupt
        return original(self, state, batch)

    monkeypatch.setattr(steps.Steps, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        run(stores["classes"], tmp_path / "run")
    first = json.loads((tmp_path / "run" / "timing.jsonl").read_text().splitlines()[0])
    monkeypatch.setattr(steps.Steps, "train", original)
    summary = train(config(stores["classes"], tmp_path / "run"), resume=True, quiet=True)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[0] == first
    assert summary["seconds"]["train"] == pytest.approx(
        sum(line["train_seconds"] for line in lines), abs=2e-3
    )
    assert sum(line["rows"] for line in lines) == 80


def test_seeds_are_complete_runs_with_mean_and_deviation(stores, tmp_path):
    summary = train_seeds(config(stores["classes"], tmp_path / "runs"), [1, 2, 3], quiet=True)
    assert summary == json.loads((tmp_path / "runs" / "summary.json").read_text())
    singles = [
        json.loads((tmp_path / "runs" / name / "summary.json").read_text())
        for name in summary["runs"]
    ]
    assert [single["seed"] for single in singles] == summary["seeds"] == [1, 2, 3]
    scores = [single["validation"]["best"]["accuracy"] for single in singles]
    assert summary["mean"]["validation"]["best"]["accuracy"] == pytest.approx(np.mean(scores))
    assert summary["std"]["validation"]["best"]["accuracy"] == pytest.approx(np.std(scores, ddof=1))
    kept = (tmp_path / "runs" / "seed-1" / "summary.json").stat().st_mtime_ns
    (tmp_path / "runs" / "summary.json").unlink()
    assert (
        train_seeds(config(stores["classes"], tmp_path / "runs"), [1, 2, 3], quiet=True) == summary
    )
    assert (tmp_path / "runs" / "seed-1" / "summary.json").stat().st_mtime_ns == kept
    with pytest.raises(UsageError, match="--seeds must be different"):
        train_seeds(config(stores["classes"], tmp_path / "again"), [1, 1])


def test_an_empty_text_is_a_row_with_a_finite_score(tmp_path):
    store = make_store(tmp_path / "store", PAIRS, empty_rows=[0, 3])
    for backend in ("dense", "sparse"):
        run(store, tmp_path / backend, graph=GraphConfig(backend=backend))
        lines = [
            json.loads(line)
            for line in (tmp_path / backend / "metrics.jsonl").read_text().splitlines()
        ]
        assert all(np.isfinite(line["loss"]) for line in lines)
    similar = make_store(tmp_path / "similar", SCORES, empty_rows=[0, 3])
    run(similar, tmp_path / "cosine")


def test_a_learnable_store_is_learned(stores, tmp_path):
    store = make_store(tmp_path / "store", CLASSES, rows={"train": 200, "validation": 100}, dim=16)
    summary = run(store, tmp_path / "run", epochs=8, optimizer=OptimizerConfig(lr=5e-3))
    assert summary["validation"]["best"]["accuracy"] >= 0.95
    assert summary["majority"]["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pooler": PoolerConfig(pooler="gloot")},
            (
                "unknown pooler .* 'gloot'. Known: adapool, adapool-attention, cls, first, glot,"
                " last, max, mean, mlp"
            ),
        ),
        ({"pooler": PoolerConfig(gnn="gatt")}, "unknown GNN layer .* 'gatt'. Known: gat"),
        ({"graph": GraphConfig(backend="fast")}, "unknown graph backend"),
        ({"graph": GraphConfig(graph="tree")}, "unknown graph rule"),
        ({"objective": ObjectiveConfig(metric="bleu")}, "unknown metric .* 'bleu'"),
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


def test_config_survives_json(tmp_path):
    original = config(
        tmp_path,
        tmp_path,
        layer=-1,
        graph=GraphConfig(tau=0.3),
        objective=ObjectiveConfig(metric="f1"),
    )
    assert from_json(TrainConfig, json.loads(json.dumps(to_json(original)))) == original
    with pytest.raises(UsageError, match="unknown field of TrainConfig; got 'epoch'"):
        from_json(TrainConfig, {**to_json(original), "epoch": 3})


def test_selection_reads_the_task_metric(stores, tmp_path):
    prepared = prepare(config(stores["scores"], tmp_path / "run"), Display(quiet=True))
    assert prepared.metric == "spearman"
    assert loop.selection_of(prepared, {"validation": {"spearman": 0.3, "pearson": 0.9}}, 0) == 0.3


def test_auto_lists_the_edges_of_long_texts_that_have_few(stores, tmp_path, monkeypatch):
    settings = config(
        stores["classes"], tmp_path / "run", graph=GraphConfig(graph="self", backend="auto")
    )
    assert prepare(settings, Display(quiet=True)).steps.edge_budgets == {}
    monkeypatch.setattr(edge_budgets, "SPARSE_LENGTH", 8)
    monkeypatch.setattr(edge_budgets, "SPARSE_DENSITY", 1 / 4)
    prepared = prepare(settings, Display(quiet=True))
    bounds = prepared.feeds["train"].plan.bounds
    assert {length for _, length in prepared.steps.edge_budgets} == {
        length for length in bounds if length >= 8
    }
    assert all(
        budget <= texts * length**2 / 4
        for (texts, length), budget in prepared.steps.edge_budgets.items()
    )
    # What a run that outgrew its budget is told to give is read.
    roomier = dataclasses.replace(
        settings, graph=dataclasses.replace(settings.graph, edge_budget=512)
    )
    monkeypatch.setattr(edge_budgets, "SPARSE_DENSITY", 1.0)
    assert set(prepare(roomier, Display(quiet=True)).steps.edge_budgets.values()) == {512}
    monkeypatch.setattr(edge_budgets, "SPARSE_DENSITY", 1 / 1000)
    assert prepare(settings, Display(quiet=True)).steps.edge_budgets == {}


@pytest.mark.parametrize("seed", range(2))
def test_measured_edge_budgets_hold_every_batch(tmp_path, seed):
    """Few long rows among many short ones: what a bucket holds is what its own rows hold."""
    store = make_store(
        tmp_path / "store", CLASSES, rows={"train": 120, "validation": 60}, longest=30, seed=seed
    )
    settings = config(
        store, tmp_path / "run", graph=GraphConfig(backend="sparse", tau=0.2), buckets=3
    )
    prepared = prepare(settings, Display(quiet=True))
    linked = jax.jit(
        lambda hidden, mask: token_graph(hidden, mask, tau=0.2, backend="dense").adjacency.sum()
    )
    for feed in prepared.feeds.values():
        for step in range(2 * feed.plan.steps_per_epoch):
            batch = feed.batch(step)
            edges = prepared.steps.budget(batch)
            assert edges is not None
            assert int(linked(batch.hidden, batch.mask)) <= edges
            assert edges & (edges - 1) == 0


def test_seeds_share_what_is_compiled(stores, tmp_path):
    workspace = Workspace()

    def steps_of(**changes):
        changed = config(stores["pairs"], tmp_path / "run", **changes)
        return prepare(changed, Display(quiet=True), workspace).steps

    assert steps_of(seed=1) is steps_of(seed=2, log_every=7)
    assert steps_of(seed=1) is not steps_of(seed=1, optimizer=OptimizerConfig(lr=3e-3))
    assert steps_of(seed=1) is not steps_of(seed=1, graph=GraphConfig(tau=0.1))
    # And each ends where it ends by itself.
    shared = [
        train(
            config(stores["pairs"], tmp_path / f"shared-{seed}", seed=seed),
            quiet=True,
            workspace=workspace,
        )
        for seed in (1, 2)
    ]
    alone = [
        train(config(stores["pairs"], tmp_path / f"alone-{seed}", seed=seed), quiet=True)
        for seed in (1, 2)
    ]
    assert [of["validation"] for of in shared] == [of["validation"] for of in alone]
    assert shared[1]["seconds"]["compile"] == 0
    for seed in (1, 2):
        for a, b in zip(
            arrays(tmp_path / f"shared-{seed}"), arrays(tmp_path / f"alone-{seed}"), strict=True
        ):
            np.testing.assert_array_equal(a, b)

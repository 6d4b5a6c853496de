"""The compiled steps: how often they are traced, what is in them, and bad numbers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.head_runs import config, run
from support.typed import of_kind, present

from glot_jax.batches.placement import DeviceStates
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.run_folders.run_log import Display
from glot_jax.training import step_functions, steps
from glot_jax.training.advance import on_device
from glot_jax.training.prepare import prepare
from glot_jax.training.steps import Block


@pytest.mark.parametrize("backend", ["dense", "sparse"])
def test_one_executable_per_bucket_and_step(stores, tmp_path, backend):
    graph = GraphConfig(backend=backend)
    short = run(stores["classes"], tmp_path / "short", epochs=1, graph=graph, buckets=2)
    long = run(stores["classes"], tmp_path / "long", epochs=3, graph=graph, buckets=2)
    # Training at two lengths; validation's few short rows join its long ones.
    assert short["compilations"] == long["compilations"] == 3


def test_training_traces_the_step_once_per_shape(stores, tmp_path, monkeypatch):
    traced = []
    original = step_functions._forward

    def counting(model, batch, edge_budget, numbers, training=None):
        traced.append((batch.hidden.shape, training is not None))
        return original(model, batch, edge_budget, numbers, training)

    monkeypatch.setattr(step_functions, "_forward", counting)
    run(stores["classes"], tmp_path / "run", epochs=3, buckets=2)
    assert len(traced) == len(set(traced)) == 3, f"traced again: {traced}"


@pytest.mark.usefixtures("users_programs")
def test_the_step_has_no_scatter(stores, tmp_path):
    prepared = prepare(config(stores["pairs"], tmp_path / "run"), Display(quiet=True))
    batch = prepared.feeds["train"].batch(0)
    prepared.steps.train(prepared.state, batch)
    (executable,) = prepared.steps.executables.finished().values()
    assert " scatter(" not in present(of_kind(executable, jax.stages.Compiled).as_text())
    sparse = prepare(
        config(stores["pairs"], tmp_path / "run", graph=GraphConfig(backend="sparse")),
        Display(quiet=True),
    )
    sparse.steps.train(sparse.state, batch)
    (executable,) = sparse.steps.executables.finished().values()
    assert " scatter(" in present(
        of_kind(executable, jax.stages.Compiled).as_text()
    )  # the test can fail


def test_after_a_bad_step_nothing_is_updated(stores, tmp_path):
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


def test_a_gradient_that_is_not_finite_changes_nothing(stores, tmp_path, monkeypatch):
    prepared = prepare(config(stores["classes"], tmp_path / "run"), Display(quiet=True))
    monkeypatch.setattr(step_functions.optax.tree, "norm", lambda _tree: float("nan"))
    before = [np.array(leaf) for leaf in jax.tree.leaves(prepared.state["params"])]
    state, logs = prepared.steps.train(prepared.state, prepared.feeds["train"].batch(0))
    assert np.isfinite(logs["loss"])
    assert int(state["first_bad_step"]) == 0
    for a, b in zip(jax.tree.leaves(state["params"]), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("users_programs")
@pytest.mark.parametrize("pooler", ["mean", "glot"])
@pytest.mark.parametrize("kind", ["classes", "pairs"])
def test_a_block_computes_the_digits_of_single_steps(stores, tmp_path, kind, pooler):
    # Whatever the block's size, and where it begins.
    settings = config(
        stores[kind],
        tmp_path / "run",
        cache="device",
        buckets=1,
        pooler=PoolerConfig(pooler=pooler, dropout=0.1, hidden_dim=8, scorer_dim=8),
    )
    prepared = prepare(settings, Display(quiet=True))
    feed = prepared.feeds["train"]
    count = feed.plan.steps_per_epoch
    assert count >= 4
    planned = on_device(feed.planned(0, count))
    length = feed.plan.bounds[-1]

    def fresh() -> steps.TrainState:
        return jax.tree.map(lambda values: values.copy(), prepared.state)

    single = fresh()
    losses = []
    for number in range(count):
        single, logs = prepared.steps.train(single, feed.batch(number))
        losses.append(float(logs["loss"]))
    for sizes in ([count], [1] * count, [3, count - 3]):
        state = fresh()
        read = []
        first = 0
        for size in sizes:
            numbers = jnp.int32(first), jnp.int32(size)
            block = Block(of_kind(feed.states, DeviceStates).tokens, planned, length, *numbers)
            state, logs = prepared.steps.train_block(state, block)
            read += np.asarray(logs["loss"])[:size].tolist()
            first += size
            assert int(logs["next"]) == first
        assert read == losses
        for left, right in zip(
            jax.tree.leaves(state["params"]), jax.tree.leaves(single["params"]), strict=True
        ):
            np.testing.assert_array_equal(left, right)
    # One program for blocks of all sizes, beside that of single steps.
    assert len(prepared.steps.executables) == 2


@pytest.mark.parametrize("name", ["train", "evaluate", "features"])
def test_a_block_lowers_for_a_gpu_without_scatter_or_host_callback(stores, tmp_path, name):
    prepared = prepare(config(stores["pairs"], tmp_path / "run"), Display(quiet=True))
    feed = prepared.feeds["train"]
    tokens = of_kind(feed.states, DeviceStates).tokens
    numbers = jnp.int32(0), jnp.int32(2)
    block = Block(tokens, on_device(feed.planned(0, 2)), feed.plan.bounds[0], *numbers)
    lowered = prepared.steps.lower_block(name, prepared.state, block, ("cuda",)).as_text()
    assert "stablehlo.while" in lowered
    assert "stablehlo.scatter" not in lowered
    assert "callback" not in lowered

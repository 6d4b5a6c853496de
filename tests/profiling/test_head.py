"""`glot head`: its floor is the arithmetic of the real step, its counts come from the compiled
one.
"""

from __future__ import annotations

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.interpreters import partial_eval
from support.synthetic_stores import make_store

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.cli import main
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.profiling import head
from glot_jax.profiling.floor import FULL, Ceilings, work_of
from glot_jax.profiling.head import profile_head, synthetic_batch
from glot_jax.training.optimizer import build_optimizer, build_schedule
from glot_jax.training.steps import Steps, init_state, split_model

DIM, LENGTH, TEXTS = 96, 24, 4
CEILINGS = Ceilings({"float32": 1e9, FULL: 1e9, "bfloat16": 2e9, "float16": 2e9}, 1e9)


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch):
    """The machine's own are measured on smaller arrays."""
    monkeypatch.setattr(head, "_SIDE", 128)
    monkeypatch.setattr(head, "_COPIED", 1 << 16)
    head.measure_ceilings.cache_clear()
    yield
    head.measure_ceilings.cache_clear()


def step_of(pooler: PoolerConfig, graph: GraphConfig, batch: TokenBatch):
    """(Steps, state, model) of a head, as the trainer makes them."""
    spec = ModelSpec(batch.hidden.shape[-1], (0,), False, "encoder", head._TASK)
    model = SentenceModel(
        spec, graph=graph, pooler=pooler, objective=ObjectiveConfig(), rngs=nnx.Rngs(0)
    )
    optimizer = build_optimizer(OptimizerConfig(), build_schedule(OptimizerConfig(), 1, 10))
    graphdef, params, stats = split_model(model)
    return (
        Steps(graphdef, head._TASK, optimizer, {}, 10),
        init_state(params, stats, optimizer, 0),
        model,
    )


def matmul_flops(jaxpr) -> float:
    """Of every dot_general, those of inner jaxprs included; of branches, the one with the most."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += (
                2
                * math.prod(equation.outvars[0].aval.shape)
                * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            )
        if equation.primitive.name == "cond":
            total += max(matmul_flops(branch.jaxpr) for branch in equation.params["branches"])
            continue
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += matmul_flops(inner)
    return total


HEADS = {
    "gat": PoolerConfig(hidden_dim=48),
    "gat-heads-none": PoolerConfig(hidden_dim=48, heads=2, jk="none"),
    "gcn-max": PoolerConfig(hidden_dim=48, gnn="gcn", jk="max"),
    "gin": PoolerConfig(hidden_dim=48, gnn="gin"),
    "sage": PoolerConfig(hidden_dim=48, gnn="sage"),
    "no-layers": PoolerConfig(num_layers=0),
    "residual": PoolerConfig(hidden_dim=48, residual=True),
    "projection": PoolerConfig(hidden_dim=48, projection_dim=64),
    "adapool": PoolerConfig(pooler="adapool"),
    "gine": PoolerConfig(hidden_dim=48, gnn="gine"),
    "mlp": PoolerConfig(pooler="mlp", hidden_dim=48, gnn="sage"),
    "adapool-attention": PoolerConfig(pooler="adapool-attention", heads=8),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_the_floor_is_what_the_dense_step_multiplies(name, train):
    """So nothing is computed towards frozen states: any such product would be in the step and not
    in the floor.
    """
    pooler, graph = HEADS[name], GraphConfig()
    batch = synthetic_batch(dim=DIM, length=LENGTH, batch_size=TEXTS)
    steps, state, model = step_of(pooler, graph, batch)
    if name == "mlp":
        pooler = dataclasses.replace(
            pooler,
            hidden_dim=model.pooler.gnn.widths[-1],
            scorer_dim=len(model.pooler.readout.bias[...]),
        )
    if train:
        jaxpr = jax.make_jaxpr(lambda state, batch: steps._train(state, batch, None))(state, batch)
    else:
        jaxpr = jax.make_jaxpr(
            lambda state, batch: steps._evaluate(state["params"], state["stats"], batch, None)
        )(state, batch)
    # What nothing depends on is not compiled: the similarities of a head without layers.
    jaxpr, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    floor = work_of(
        graph,
        pooler,
        dim=DIM,
        lengths=[LENGTH] * TEXTS,
        states_dtype="float32",
        parameters=0,
        train=train,
    )
    # Products with vectors (scores, weighted sums, the task's head) are left out of the floor.
    assert 0.94 * matmul_flops(jaxpr) < sum(floor.flops.values()) <= matmul_flops(jaxpr)


def test_padding_and_poolers_without_products_are_no_work():
    half = work_of(
        GraphConfig(),
        PoolerConfig(),
        dim=DIM,
        lengths=[12, 12],
        states_dtype="float32",
        parameters=10,
        train=True,
    )
    whole = work_of(
        GraphConfig(),
        PoolerConfig(),
        dim=DIM,
        lengths=[12, 12, 12, 12],
        states_dtype="float32",
        parameters=10,
        train=True,
    )
    assert whole.flops["float32"] == 2 * half.flops["float32"]
    mean = work_of(
        GraphConfig(),
        PoolerConfig(pooler="mean"),
        dim=DIM,
        lengths=[10],
        states_dtype="float16",
        parameters=0,
        train=False,
    )
    assert sum(mean.flops.values()) == 0
    assert mean.seconds(CEILINGS) == 10 * DIM * 2 / 1e9


def test_the_gram_matrix_is_counted_in_the_dtype_of_the_states():
    work = work_of(
        GraphConfig(),
        PoolerConfig(dtype="bfloat16"),
        dim=DIM,
        lengths=[LENGTH],
        states_dtype="float32",
        parameters=0,
        train=True,
    )
    assert work.flops[FULL] == 2 * LENGTH**2 * DIM
    assert "float32" not in work.flops


def test_synthetic_texts_share_a_direction():
    batch = synthetic_batch(dim=512, length=64, batch_size=8, tokens_per_text=20, seed=1)
    hidden, lengths = np.asarray(batch.hidden), np.asarray(batch.mask).sum(1)
    assert (hidden[~np.asarray(batch.mask)] == 0).all()
    assert lengths.min() >= 1
    assert 10 < lengths.mean() < 30
    first = hidden[lengths.argmax()][: lengths.max()]
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    cosines = (first @ first.T)[~np.eye(len(first), dtype=bool)]
    assert abs(cosines.mean() - 1.44 / 2.44) < 0.02


@pytest.mark.parametrize(
    ("backend", "scatters"), [("dense", False), ("blockwise", False), ("sparse", True)]
)
def test_counts_of_the_compiled_step(backend, scatters):
    batches = [synthetic_batch(dim=16, length=8, batch_size=2, seed=seed) for seed in range(2)]
    of = profile_head(
        GraphConfig(backend=backend),
        PoolerConfig(hidden_dim=8),
        batches,
        repeats=2,
        ceilings=CEILINGS,
    )
    assert (of.scatters > 0) == scatters
    assert of.compilations == 2  # forward and step
    assert of.step_ms > 0
    assert of.forward_ms > 0
    assert of.peak_bytes > 2 * 8 * 16 * 4
    assert (of.flops is not None) == (backend == "dense")
    assert 0 < of.density <= 1
    assert of.over_floor == of.step_ms / of.floor_ms


@pytest.mark.parametrize("gnn", ["gat", "gcn", "gin", "gine", "sage"])
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
def test_a_step_for_cuda_has_no_scatter(gnn, backend):
    batch = synthetic_batch(dim=16, length=8, batch_size=2)
    steps, state, _ = step_of(
        PoolerConfig(gnn=gnn, hidden_dim=8, dtype="bfloat16"), GraphConfig(backend=backend), batch
    )
    text = steps.lower("train", state, batch, platforms=("cuda",)).as_text()
    assert "dot_general" in text
    assert "scatter" not in text


def test_the_command_prints_one_object(capsys, tmp_path):
    shape = [
        "--dim",
        "16",
        "--hidden-dim",
        "8",
        "--length",
        "8",
        "--tokens-per-text",
        "5",
        "--batch-size",
        "2",
    ]
    arguments = [*shape, "--repeats", "2", "--json", "--compare", "sparse", "bfloat16", "adapool"]
    with pytest.raises(SystemExit, match="0"):
        main(["head", *arguments, "--trace", str(tmp_path / "trace")])
    values = json.loads(capsys.readouterr().out)
    assert {
        "device",
        "backend",
        "step_ms",
        "forward_ms",
        "compile_seconds",
        "flops",
        "bytes",
        "peak_bytes",
        "floor_ms",
        "scatters",
        "compilations",
    } <= set(values)
    assert [(of["backend"], of["dtype"], of["pooler"]) for of in values["profiles"]] == [
        ("dense", "float32", "glot"),
        ("sparse", "float32", "glot"),
        ("dense", "bfloat16", "glot"),
        ("dense", "float32", "adapool"),
    ]
    assert values["tokens"] < 16
    assert [of["states_dtype"] for of in values["profiles"]] == [
        "float32",
        "float32",
        "bfloat16",
        "float32",
    ]
    assert values["profiles"][3]["density"] is None
    assert list((tmp_path / "trace").rglob("perfetto_trace.json.gz"))


def test_a_store_is_profiled_by_bucket(tmp_path, capsys):
    make_store(tmp_path / "store", rows={"train": 64, "validation": 8})
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                "head",
                "--store",
                str(tmp_path / "store"),
                "--hidden-dim",
                "8",
                "--batch-size",
                "4",
                "--repeats",
                "1",
                "--buckets",
                "2",
                "--forward-only",
            ]
        )
    printed = capsys.readouterr().out
    assert "4 x" in printed
    assert printed.count("glot") >= 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"compare": ("fast",)}, "--compare names"),
        ({"tokens_per_text": 200.0}, "--tokens-per-text"),
        ({"states_dtype": "int8"}, "--states-dtype"),
        ({"repeats": 0}, "--repeats"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_input(options, match):
    with pytest.raises(UsageError, match=match):
        head.run_profile(dataclasses.replace(ProfileConfig(length=8, dim=8), **options))


def test_a_known_fault_of_xla_is_warned_of(monkeypatch):
    assert head.scatter_warning("sparse") is None  # on this machine
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for version, warned in [
        ("0.10.2", True),
        ("0.11.0", True),
        ("0.10.1", False),
        ("0.11.1", False),
    ]:
        monkeypatch.setattr(head.jaxlib, "__version__", version)
        assert (head.scatter_warning("sparse") is not None) == warned
        assert head.scatter_warning("dense") is None


def test_what_is_not_the_head_that_was_asked_for_is_refused():
    batch = [synthetic_batch(dim=8, length=8, batch_size=2)]
    with pytest.raises(UsageError, match="--k is at most the longest padded text, 8"):
        profile_head(
            GraphConfig(graph="knn", k=9),
            PoolerConfig(hidden_dim=8),
            batch,
            repeats=1,
            ceilings=CEILINGS,
        )
    with pytest.raises(UsageError, match="--edge-budget holds the edges of every batch; got 4 for"):
        profile_head(
            GraphConfig(backend="sparse", edge_budget=4),
            PoolerConfig(hidden_dim=8),
            batch,
            repeats=1,
            ceilings=CEILINGS,
        )
    with pytest.raises(UsageError, match="unknown graph rule"):
        head.run_profile(
            ProfileConfig(
                length=8,
                dim=8,
                graph=GraphConfig(graph="treshold"),
                pooler=PoolerConfig(pooler="mean"),
            )
        )


def test_density_and_floor_are_of_the_batches_that_are_timed():
    """Every pair of every batch is an edge: lengths differ, and no average of them may come
    between.
    """
    batches = [
        synthetic_batch(dim=8, length=8, batch_size=3, tokens_per_text=5, seed=seed)
        for seed in range(3)
    ]
    of = profile_head(
        GraphConfig(graph="complete"),
        PoolerConfig(hidden_dim=8),
        batches,
        repeats=1,
        forward_only=True,
        ceilings=CEILINGS,
    )
    assert of.density == 1
    assert of.step_ms is None
    assert of.over_floor == of.forward_ms / of.forward_floor_ms


def test_soft_edges_are_dense_whatever_the_shape(monkeypatch):
    monkeypatch.setattr("glot_jax.graphs.stem.DENSE_PAIRS", 1)
    batch = [synthetic_batch(dim=8, length=8, batch_size=2)]
    of = profile_head(
        GraphConfig(learn_tau=True), PoolerConfig(hidden_dim=8), batch, repeats=1, ceilings=CEILINGS
    )
    assert of.backend == "dense"
    of = profile_head(
        GraphConfig(), PoolerConfig(hidden_dim=8), batch, repeats=1, ceilings=CEILINGS
    )
    assert of.backend == "blockwise"


def test_profiling_leaves_the_given_states_alone():
    batch = synthetic_batch(dim=16, length=8, batch_size=2)
    before = np.asarray(batch.hidden).copy()
    profile_head(GraphConfig(), PoolerConfig(hidden_dim=8), [batch], repeats=1, ceilings=CEILINGS)
    assert jnp.array_equal(batch.hidden, before)

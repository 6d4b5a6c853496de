"""The floor of a step is the arithmetic of the real one."""

from __future__ import annotations

import math

import jax
import pytest
from flax import nnx
from jax.interpreters import partial_eval

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.graphs import Stem
from glot_jax.pooling import POOLERS, Pooler
from glot_jax.profiling.ceilings import FULL, Ceilings
from glot_jax.profiling.floor import work_of
from glot_jax.profiling.head import Head
from glot_jax.profiling.shapes import synthetic_batch

DIM, LENGTH, TEXTS = 96, 24, 4
CEILINGS = Ceilings({"float32": 1e9, FULL: 1e9, "bfloat16": 2e9, "float16": 2e9}, 1e9)


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
    "pma": PoolerConfig(pooler="pma", heads=8, num_latents=2),
    "latent-attention": PoolerConfig(pooler="latent-attention", heads=8, num_latents=32),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_the_floor_is_what_the_dense_step_multiplies(name, train):
    """So nothing is computed towards frozen states.

    Any such product would be in the step and not in the floor.
    """
    pooler, graph = HEADS[name], GraphConfig()
    batch = synthetic_batch(dim=DIM, length=LENGTH, batch_size=TEXTS)
    head = Head(graph, pooler, [batch])
    steps, state, model = head.steps, head.state, head.model
    if train:
        jaxpr = jax.make_jaxpr(lambda state, batch: steps._train(state, batch, None))(state, batch)
    else:
        evaluate = steps._judge["evaluate"]
        jaxpr = jax.make_jaxpr(
            lambda state, batch: evaluate(
                state["params"], state["stats"], state["numbers"].stem, batch, None
            )
        )(state, batch)
    # What nothing depends on is not compiled: the similarities of a head without layers.
    jaxpr, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    floor = work_of(
        model.stem,
        model.pooler,
        lengths=[LENGTH] * TEXTS,
        states_dtype="float32",
        parameters=0,
        train=train,
    )
    # Products with vectors (scores, weighted sums, the task's head) are left out of the floor.
    assert 0.94 * matmul_flops(jaxpr) < sum(floor.flops.values()) <= matmul_flops(jaxpr)


def head_of(config: PoolerConfig) -> tuple[Stem, Pooler]:
    stem = Stem(DIM, config=GraphConfig(), dtype=config.dtype, rngs=nnx.Rngs(0))
    pooler = POOLERS[config.pooler].from_config(DIM, config, kind="encoder", rngs=nnx.Rngs(0))
    return stem, pooler


def test_padding_and_poolers_without_products_are_no_work():
    half = work_of(
        *head_of(PoolerConfig()),
        lengths=[12, 12],
        states_dtype="float32",
        parameters=10,
        train=True,
    )
    whole = work_of(
        *head_of(PoolerConfig()),
        lengths=[12, 12, 12, 12],
        states_dtype="float32",
        parameters=10,
        train=True,
    )
    assert whole.flops["float32"] == 2 * half.flops["float32"]
    mean = work_of(
        *head_of(PoolerConfig(pooler="mean")),
        lengths=[10],
        states_dtype="float16",
        parameters=0,
        train=False,
    )
    assert sum(mean.flops.values()) == 0
    assert mean.seconds(CEILINGS) == 10 * DIM * 2 / 1e9


def test_the_gram_matrix_is_counted_in_the_dtype_of_the_states():
    work = work_of(
        *head_of(PoolerConfig(dtype="bfloat16")),
        lengths=[LENGTH],
        states_dtype="float32",
        parameters=0,
        train=True,
    )
    assert work.flops[FULL] == 2 * LENGTH**2 * DIM
    assert "float32" not in work.flops

"""What inference costs behind the frozen model: the token graph alone, a pooler on a graph that
stands, both in one program.

For the paper's Tables 10 and 16. Every call is waited for, so a time is what one batch takes and
not the reciprocal of a throughput. States and masks lie on the device when the clock starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.graphs import Stem, TokenGraph
from glot_jax.graphs.stem import require_k_within
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.objectives import TaskSpec
from glot_jax.pooling import count_parameters
from glot_jax.profiling.head import measure_ms
from glot_jax.training.steps import Steps, split_model
from glot_jax.training.xla_options import compiled

_TASK = TaskSpec(
    "inference", ("text",), ("text",), None, "none"
)  # no labels, so no head behind the pooler


class Timing(NamedTuple):
    """Of one warm call."""

    median_ms: float
    spread_ms: tuple[float, float]
    """Quartiles [25 %, 75 %] over the repeats."""


class PoolerCost(NamedTuple):
    """Of one pooler on batches of one shape."""

    time: Timing
    """States and mask -> pooled vectors, the graph included where the pooler reads one."""
    parameters: int
    """Trained numbers of stem and pooler; no task's head."""
    peak_bytes: int
    """By XLA's memory analysis: arguments (states among them), temporaries and results."""


def timed(call: Callable[[], Any], repeats: int) -> Timing:
    """Time `call`, after warm-ups; calls of less than 20 ms are measured several at a time, each
    waited for.
    """
    low, median, high = measure_ms(lambda: jax.block_until_ready(call()), repeats)
    return Timing(median, (low, high))


def batch_of(hidden: ArrayLike, mask: ArrayLike) -> TokenBatch:
    """A batch without labels, on the device: hidden [batch, length, dim] of any float dtype, mask
    [batch, length] bool.
    """
    hidden, mask = jnp.asarray(hidden), jnp.asarray(mask)
    return TokenBatch(hidden, mask, jnp.zeros(len(mask), jnp.int32), jnp.ones(len(mask), bool))


def edges_of(graph: TokenGraph) -> list[jax.Array]:
    """Every array of a graph but its nodes: dense has the adjacency among them, blockwise its bits,
    sparse the lists of edges.
    """
    return [leaf for leaf in jax.tree.leaves(graph) if leaf is not graph.nodes]


def graph_cost(hidden: ArrayLike, mask: ArrayLike, graph: GraphConfig, repeats: int = 20) -> Timing:
    """Time the construction of the graph and nothing else (paper Table 10, "Graph Const."):
    cosines, rule, edges.

    Args:
        hidden: states [batch, length, dim]; mask: [batch, length] bool, True at real tokens.
        graph: its rule and backend; `auto` is dense or blockwise, by the shape, since nobody counts
            edges here.

    Raises:
        UsageError: unknown names, or a k above the length.
    """
    batch = batch_of(hidden, mask)
    require_k_within(graph, batch.mask.shape[1])
    stem = Stem(batch.hidden.shape[-1], config=graph, rngs=nnx.Rngs(0))
    # The nodes are left out of the results, or their copy would be timed too.
    build = compiled(
        jax.jit(lambda hidden, mask: edges_of(stem(hidden, mask))).lower(batch.hidden, batch.mask),
        batch.mask.shape,
    )
    return timed(lambda: build(batch.hidden, batch.mask), repeats)


def head_cost(
    hidden: ArrayLike,
    mask: ArrayLike,
    graph: GraphConfig,
    pooler: PoolerConfig,
    repeats: int = 20,
    *,
    kind: str = "encoder",
) -> Timing:
    """Time the pooler on the graph of these states, built before and not counted; so is what the
    stem makes of the nodes.

    Args as in `graph_cost`; kind: of the backbone, "encoder" or "decoder", which decides what `cls`
    takes.
    """
    batch = batch_of(hidden, mask)
    model = _model(batch, graph, pooler, kind)
    arrays, structure = jax.tree.flatten(jax.jit(lambda batch: model.graph(batch))(batch))
    graphdef, params, stats = split_model(model)

    # Parameters are arguments: as constants, products among them would be taken while compiling.
    # The graph comes as plain arrays: lowering fills what it is given with descriptions, and fields
    # of a graph hold arrays alone.
    def pool(params: dict, stats: dict, arrays: list[jax.Array]) -> jax.Array:
        return nnx.merge(graphdef, params, stats).pooler(jax.tree.unflatten(structure, arrays))

    call = compiled(jax.jit(pool).lower(params, stats, arrays), batch.mask.shape)
    return timed(lambda: call(params, stats, arrays), repeats)


def pooler_cost(
    graph: GraphConfig,
    pooler: PoolerConfig,
    batches: Sequence[TokenBatch],
    repeats: int = 20,
    *,
    kind: str = "encoder",
) -> PoolerCost:
    """Cost of pooling batches of one shape, taken in turn, by the trainer's own compiled forward
    pass (paper Table 16).

    Raises:
        UsageError: unknown names, or a k above the length.
    """
    model = _model(batches[0], graph, pooler, kind)
    graphdef, params, stats = split_model(model)
    # Nothing is trained: no update, no loss, no budgets of edges.
    steps, state = (
        Steps(graphdef, _TASK, optax.identity(), {}, 1),
        {"params": params, "stats": stats},
    )
    source = itertools.cycle(batches)
    time = timed(lambda: steps.features(state, next(source)), repeats)
    (executable,) = steps.executables.values()
    memory: Any = executable.memory_analysis()  # type: ignore[attr-defined]
    peak = (
        memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return PoolerCost(time, count_parameters(model), peak)


def _model(batch: TokenBatch, graph: GraphConfig, pooler: PoolerConfig, kind: str) -> SentenceModel:
    _, length, dim = batch.hidden.shape
    model = SentenceModel(
        ModelSpec(dim, (0,), False, kind, _TASK),
        graph=graph,
        pooler=pooler,
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )
    require_k_within(model.stem.config, length)
    return model

"""Each pooler's share of the time of a batch, behind the frozen backbone (paper Table 16).

Every call is waited for, so a time is what one batch takes and not the reciprocal of a throughput.
States and masks lie on the device when the clock starts.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike

from glot_jax import pooling
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
)
from glot_jax.errors import UsageError, lookup
from glot_jax.graphs.from_states import require_k_within
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.objectives import TaskSpec
from glot_jax.profiling import frozen_backbone
from glot_jax.profiling.frozen_backbone import load_per_core, ms_text, timing_text
from glot_jax.profiling.program import peak_bytes
from glot_jax.profiling.timing import Timing, time_latency
from glot_jax.reporting.tables import Column, Table, table_console
from glot_jax.training.step_functions import Numbers
from glot_jax.training.steps import Steps
from glot_jax.xla.cpu_options import compiled

POOLERS = ("cls", "mean", "max", "adapool", "mlp", "glot")
_BATCHES = 2  # different ones: a pass must not be able to remember
# Without labels there is no head behind the pooler.
_TASK = TaskSpec("inference", ("text",), ("text",), None, "none")


@dataclasses.dataclass(frozen=True)
class InferenceCost:
    """Times of one batch through the backbone and one pooler."""

    backbone: str
    load_per_core: float
    """One-minute average before the backbone was loaded."""
    pooler: str
    batch_size: int
    length: int
    """Tokens of each text."""
    repeats: int
    forward: Timing
    """The backbone's forward pass: measured once, so that poolers differ by what they do
    themselves.
    """
    head: PoolerCost

    @property
    def total_ms(self) -> float:
        """Sum of the medians."""
        return self.forward.median_ms + self.head.time.median_ms

    @property
    def head_percent(self) -> float:
        """Share of the pooler in the total."""
        return 100 * self.head.time.median_ms / self.total_ms

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; spreads are quartiles [25 %, 75 %]."""
        return {
            "backbone": self.backbone,
            "load_per_core": self.load_per_core,
            "pooler": self.pooler,
            "batch_size": self.batch_size,
            "length": self.length,
            "repeats": self.repeats,
            "forward_ms": self.forward.median_ms,
            "head_ms": self.head.time.median_ms,
            "forward_spread_ms": list(self.forward.spread_ms),
            "head_spread_ms": list(self.head.time.spread_ms),
            "total_ms": self.total_ms,
            "head_percent": self.head_percent,
            "parameters": self.head.parameters,
            "peak_bytes": self.head.peak_bytes,
        }


class PoolerCost(NamedTuple):
    """Cost of one pooler on batches of one shape."""

    time: Timing
    """States and mask -> pooled vectors, the graph included where the pooler reads one."""
    parameters: int
    """Trained numbers of stem and pooler; no task's head."""
    peak_bytes: int
    """By XLA's memory analysis: arguments (states among them), temporaries and results; nothing of
    the backbone's.
    """


def run_inference_cost(
    backbone: str = "minilm",
    poolers: Sequence[str] = POOLERS,
    batch_size: int = 32,
    length: int = 128,
    repeats: int = 20,
    *,
    seed: int = 0,
) -> list[InferenceCost]:
    """Time a batch through the backbone and through each pooler; print the times as a table.

    Args:
        backbone: name on the Hub or a local folder.
        poolers: names of glot_jax.pooling.POOLERS.
        batch_size: texts of the batch.
        length: tokens of each text.
        repeats: measurements of each time.
        seed: of the random texts.

    Raises:
        UsageError: an unknown pooler, a length beyond the backbone's positions, or a backbone that
            cannot be run.
    """
    for name in poolers:
        lookup(pooling.POOLERS, name, "pooler")
    if not poolers:
        raise UsageError(
            rule="at least one pooler must be measured",
            got="none",
            fix=f"Give some of {', '.join(POOLERS)}.",
        )
    if batch_size < 1:
        raise UsageError(
            rule="a batch must hold at least 1 text",
            got=batch_size,
            fix="Give for example 32.",
        )
    # Before the backbone is loaded: loading is work of our own.
    load = load_per_core()
    frozen = frozen_backbone.load_frozen(backbone, (length,), repeats)
    drawn = [
        frozen_backbone.random_texts(frozen, batch_size, length, seed + number)
        for number in range(_BATCHES)
    ]
    # Once for all poolers: it knows nothing of them.
    forward = frozen_backbone.time_forward(frozen, drawn[0], repeats)
    batches = []
    for ids in drawn:
        states = frozen_backbone.states_of(frozen, ids)
        batches.append(unlabelled_batch(states.hidden, states.mask))
    costs = []
    for name in poolers:
        config = PoolerConfig(pooler=name)
        head = pooler_cost(
            GraphConfig(),
            config,
            batches,
            repeats,
            kind=frozen.kind,
        )
        cost = InferenceCost(
            frozen.source.name,
            load,
            name,
            batch_size,
            length,
            repeats,
            forward,
            head,
        )
        costs.append(cost)
    table = Table.by_columns(_COLUMNS, costs, f"load per core before: {load:.2f}")
    title = (
        f"Time of {batch_size} texts of {length} tokens, {frozen.source.name}; ms, median (25–75 %)"
        f" of {repeats}"
    )
    table_console().print(table.to_console(title))
    return costs


def pooler_cost(
    graph: GraphConfig,
    pooler: PoolerConfig,
    batches: Sequence[TokenBatch],
    repeats: int = 20,
    *,
    kind: str = "encoder",
) -> PoolerCost:
    """Cost of pooling batches of one shape, by the trainer's own compiled forward pass.

    The batches are taken in turn (paper Table 16).

    Args:
        graph: rule and backend of the token graph.
        pooler: settings of the pooler.
        batches: of one shape, from `unlabelled_batch`.
        repeats: measurements.
        kind: of the backbone, encoder or decoder, which decides what `cls` takes.

    Raises:
        UsageError: unknown names, or a k above the length.
    """
    model = _model(batches[0], graph, pooler, kind)
    graphdef, params, stats = split_model(model)
    # Nothing is trained: no update, no loss, no budgets of edges.
    steps = Steps(graphdef, lambda _numbers: optax.identity(), {}, 1)
    numbers = Numbers.from_config(OptimizerConfig(), graph, pooler)
    state = {"params": params, "stats": stats, "numbers": numbers}
    source = itertools.cycle(batches)
    time = time_latency(lambda: steps.features(state, next(source)), repeats)
    # One shape, one step: exactly one program was compiled.
    (executable,) = steps.executables.finished().values()
    # A compiled program, though `Steps` promises no more than a function.
    program = cast("jax.stages.Compiled", executable)
    return PoolerCost(
        time=time,
        parameters=pooling.count_parameters(model),
        peak_bytes=peak_bytes(program),
    )


def head_cost(
    hidden: ArrayLike,
    mask: ArrayLike,
    graph: GraphConfig,
    pooler: PoolerConfig,
    repeats: int = 20,
    *,
    kind: str = "encoder",
) -> Timing:
    """Time the pooler alone: the graph and the node features are built beforehand and not timed.

    Args:
        hidden: states [batch, length, dim] of any float dtype.
        mask: [batch, length] bool, True at real tokens.
        graph: rule and backend of the token graph.
        pooler: settings of the pooler.
        repeats: measurements.
        kind: of the backbone, encoder or decoder, which decides what `cls` takes.

    Raises:
        UsageError: unknown names, or a k above the length.
    """
    batch = unlabelled_batch(hidden, mask)
    model = _model(batch, graph, pooler, kind)
    # As plain arrays: lowering fills its arguments with descriptions, and the fields of a graph
    # hold arrays alone.
    build = jax.jit(lambda batch: model.graph(batch))
    arrays, structure = jax.tree.flatten(build(batch))
    graphdef, params, stats = split_model(model)

    # Parameters are arguments: as constants, products among them would be taken while compiling.
    def pool(
        params: dict,
        stats: dict,
        arrays: list[jax.Array],
    ) -> jax.Array:
        built = jax.tree.unflatten(structure, arrays)
        merged = nnx.merge(graphdef, params, stats)
        return merged.pooler(built)

    lowered = jax.jit(pool).lower(params, stats, arrays)
    call = compiled(lowered, batch.mask.shape)
    return time_latency(lambda: call(params, stats, arrays), repeats)


def unlabelled_batch(hidden: ArrayLike, mask: ArrayLike) -> TokenBatch:
    """A batch on the device whose labels are all 0.

    Args:
        hidden: states [batch, length, dim] of any float dtype.
        mask: [batch, length] bool, True at real tokens.
    """
    hidden = jnp.asarray(hidden)
    mask = jnp.asarray(mask)
    # A batch cannot do without labels, but pooling reads none.
    labels = jnp.zeros(len(mask), jnp.int32)
    row_mask = jnp.ones(len(mask), bool)
    return TokenBatch(hidden, mask, labels, row_mask)


def _model(
    batch: TokenBatch,
    graph: GraphConfig,
    pooler: PoolerConfig,
    kind: str,
) -> SentenceModel:
    _, length, dim = batch.hidden.shape
    spec = ModelSpec(
        dim=dim,
        layers=(0,),
        mixed=False,
        kind=kind,
        task=_TASK,
    )
    model = SentenceModel(
        spec,
        graph=graph,
        pooler=pooler,
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )
    # The model's own config: a pooler that reads no edge has another rule, whose k does not matter.
    require_k_within(model.stem.config, length)
    return model


_COLUMNS: list[Column[InferenceCost]] = [
    Column("pooler", lambda cost: cost.pooler, align="left"),
    Column("backbone forward", lambda cost: timing_text(cost.forward)),
    Column("head", lambda cost: timing_text(cost.head.time)),
    Column("total", lambda cost: ms_text(cost.total_ms)),
    Column("head / total", lambda cost: f"{cost.head_percent:.2f} %"),
    Column("parameters", lambda cost: f"{cost.head.parameters:,}"),
    Column("head's memory", lambda cost: f"{cost.head.peak_bytes / 1e6:,.1f} MB"),
]

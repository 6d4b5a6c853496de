"""`glot profile`: what one training step of a pooling head costs, and how far that is from what the
machine can do.

A step takes states and mask as arguments, new values each time: graph, forward, loss, gradient,
Adam. It is the trainer's own compiled step, so what is measured is what trains.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError, require
from glot_jax.graphs import SELECTABLE
from glot_jax.graphs.stem import require_k_within
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.objectives import TaskSpec
from glot_jax.pooling import POOLERS, AdaPool, Glot, Mlp, count_parameters
from glot_jax.profiling.floor import FULL, Ceilings, work_of
from glot_jax.training.edge_budgets import is_sparse, power_of_two
from glot_jax.training.memory import keep_memory
from glot_jax.training.optimizer import build_optimizer, build_schedule
from glot_jax.training.prepare import check_names, prepare
from glot_jax.training.run_log import Display
from glot_jax.training.steps import Steps, TrainState, edge_counter, init_state, split_model
from glot_jax.training.xla_options import compiled

_BATCHES = 3  # different ones: a step must not be able to remember
_ENOUGH = 0.02  # seconds of one measurement; shorter steps are measured several at a time
_TRACED = 5  # steps
_SIDE = 4096
_COPIED = 256 * 1024**2  # bytes
_TASK = TaskSpec(
    "profile", ("text",), ("text",), "label", "classes", ("no", "yes"), metrics=("accuracy",)
)


@dataclasses.dataclass(frozen=True)
class Profile:
    """One variant at one shape.

    Times in milliseconds, medians; spreads are quartiles [25 %, 75 %]; sizes in bytes.
    """

    device: str
    pooler: str
    backend: str
    dtype: str
    states_dtype: str
    dim: int
    length: int
    texts: int
    tokens: int
    """Real tokens of a batch."""
    density: float | None
    """Edges over pairs of real tokens; None: the pooler looks at no edge."""
    forward_ms: float
    forward_spread_ms: tuple[float, float]
    forward_floor_ms: float
    forward_peak_bytes: int
    """Beyond states and parameters: what XLA allocated for temporaries and results."""
    step_ms: float | None
    step_spread_ms: tuple[float, float] | None
    floor_ms: float | None
    peak_bytes: int
    """Of the step (of the forward pass, if that is all): arguments, temporaries and results."""
    compile_seconds: float
    flops: float | None
    """By XLA's cost analysis, of the step; it counts the body of a loop once, so None unless dense.
    """
    bytes: float | None
    fusions: int
    scatters: int
    """In the step as JAX hands it to XLA."""
    compilations: int

    @property
    def over_floor(self) -> float:
        """Time / floor, of the step or else of the forward pass."""
        if self.step_ms is None or self.floor_ms is None:
            return self.forward_ms / self.forward_floor_ms
        return self.step_ms / self.floor_ms


def synthetic_batch(
    *,
    dim: int,
    length: int,
    batch_size: int,
    tokens_per_text: float | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> TokenBatch:
    """Texts whose tokens share a direction, `x = 1.2 g + n` with g drawn once a text: a cosine of
    0.59 on average.

    hidden [batch_size, length, dim] of `dtype`, zeros where padded; two classes. Lengths are spread
    evenly around `tokens_per_text`, from 1 to `length` at most; None: every text is `length` long.
    """
    rng = np.random.default_rng(seed)
    key = jax.random.key(seed)
    lengths = np.full(batch_size, length)
    if tokens_per_text is not None:
        reach = min(tokens_per_text - 1, length - tokens_per_text)
        lengths = rng.integers(
            round(tokens_per_text - reach), round(tokens_per_text + reach) + 1, batch_size
        )
    mask = jnp.asarray(np.arange(length) < lengths[:, None])
    shared, own = (
        jax.random.normal(of, (batch_size, size, dim))
        for of, size in zip(jax.random.split(key), (1, length), strict=True)
    )
    hidden = jnp.where(mask[..., None], 1.2 * shared + own, 0).astype(dtype)
    return TokenBatch(
        hidden,
        mask,
        jnp.asarray(rng.integers(0, 2, batch_size), jnp.int32),
        jnp.ones(batch_size, bool),
    )


def profile_head(
    graph: GraphConfig,
    pooler: PoolerConfig,
    batches: list[TokenBatch],
    *,
    repeats: int = 20,
    forward_only: bool = False,
    ceilings: Ceilings | None = None,
    trace: Path | None = None,
) -> Profile:
    """Compile and time a head of this config on `batches` of one shape, in turn.

    Raises:
        UsageError: unknown names, or a backend that cannot do what is asked.
    """
    first = batches[0]
    texts, length, dim = first.hidden.shape
    states_dtype = str(first.hidden.dtype)
    spec = ModelSpec(dim, (0,), False, "encoder", _TASK)
    model = SentenceModel(
        spec, graph=graph, pooler=pooler, objective=ObjectiveConfig(), rngs=nnx.Rngs(0)
    )
    optimizer = build_optimizer(OptimizerConfig(), build_schedule(OptimizerConfig(), 1, 1 << 20))
    lengths = [np.asarray(batch.mask).sum(1, dtype=np.int64) for batch in batches]
    density, budgets = None, {}
    if model.pooler.uses_edges and pooler.num_layers:
        require_k_within(graph, length)
        count = edge_counter(model.stem)
        edges = [int(np.sum(count(batch.hidden, batch.mask))) for batch in batches]
        density = sum(edges) / max(1, sum(int(np.square(of).sum()) for of in lengths))
        needed = power_of_two(max(edges))
        if graph.backend == "sparse":
            budget = budgets[texts, length] = graph.edge_budget or needed
            require(
                budget >= max(edges),
                "--edge-budget holds the edges of every batch",
                f"{budget:,} for {max(edges):,}",
                f"Give {needed}.",
            )
        elif graph.backend == "auto" and not graph.learn_tau and is_sparse(texts, length, needed):
            budgets[texts, length] = needed
    graphdef, params, stats = split_model(model)
    steps = Steps(graphdef, _TASK, optimizer, budgets, 1 << 20)
    state = init_state(params, stats, optimizer, 0)
    source = _in_turn(batches)
    forward = measure_ms(lambda: steps.evaluate(state, next(source)), repeats)
    step, holder = None, [state]
    if not forward_only:
        step = measure_ms(lambda: _train(steps, holder, next(source)), repeats)
        if trace is not None:
            _trace(trace, lambda: _train(steps, holder, next(source)))
    elif trace is not None:
        _trace(trace, lambda: steps.evaluate(state, next(source)))
    backend = (
        "dense"
        if graph.learn_tau and not forward_only
        else backend_of(model, first, budgets.get((texts, length)))
    )
    warning = scatter_warning(backend)
    if warning:
        print(warning, file=sys.stderr)
    compiled: Any = {name: executable for (name, *_), executable in steps.executables.items()}
    shown = compiled.get("train", compiled["evaluate"])
    # The sizes that the head really has: an mlp's width is matched, a scorer's has a default.
    built = (
        {"scorer_dim": model.pooler.readout.bias[...].shape[0]}
        if isinstance(model.pooler, AdaPool | Glot)
        else {}
    )
    if isinstance(model.pooler, Mlp) and pooler.num_layers:
        built["hidden_dim"] = model.pooler.gnn.widths[-1]
    head, parameters = dataclasses.replace(pooler, **built), count_parameters(model)
    if ceilings is None:
        ceilings = measure_ceilings(ceilings_of(states_dtype, pooler.dtype))
    forward_floor, floor = (
        1000
        * float(
            np.mean(
                [
                    work_of(
                        graph,
                        head,
                        dim=dim,
                        lengths=of,
                        states_dtype=states_dtype,
                        parameters=parameters,
                        train=train,
                    ).seconds(ceilings)
                    for of in lengths
                ]
            )
        )
        for train in (False, True)
    )
    tokens = round(float(np.mean([of.sum() for of in lengths])))
    analysis = shown.cost_analysis() if backend == "dense" else None
    memory, forward_memory = (of.memory_analysis() for of in (shown, compiled["evaluate"]))
    text = shown.as_text()
    # As JAX hands it over: on a CPU, XLA turns scatters into loops.
    lowered = steps.lower("evaluate" if forward_only else "train", holder[0], first).as_text()
    return Profile(
        device=jax.local_devices()[0].device_kind,
        pooler=pooler.pooler,
        backend=backend,
        dtype=pooler.dtype,
        states_dtype=states_dtype,
        dim=dim,
        length=length,
        texts=texts,
        tokens=tokens,
        density=density,
        forward_ms=forward[1],
        forward_spread_ms=(forward[0], forward[2]),
        forward_floor_ms=forward_floor,
        forward_peak_bytes=forward_memory.temp_size_in_bytes + forward_memory.output_size_in_bytes,
        step_ms=step and step[1],
        step_spread_ms=step and (step[0], step[2]),
        floor_ms=None if forward_only else floor,
        peak_bytes=memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        compile_seconds=steps.compile_seconds,
        flops=analysis and analysis.get("flops"),
        bytes=analysis and analysis.get("bytes accessed"),
        fusions=len(re.findall(r"= \S.* fusion\(", text)),
        scatters=len(re.findall(r"\bstablehlo\.scatter\b", lowered)),
        compilations=len(steps.executables),
    )


@functools.cache
def measure_ceilings(dtypes: tuple[str, ...] = ("float32", FULL), repeats: int = 5) -> Ceilings:
    """The best of `repeats` runs of each: a ceiling is what the machine can do when nobody disturbs
    it.
    """
    rates = {}
    for dtype in dtypes:
        if dtype == FULL and jax.default_backend() == "cpu" and "float32" in rates:
            rates[FULL] = rates["float32"]  # a CPU rounds neither
            continue
        matrix = jax.random.normal(jax.random.key(0), (_SIDE, _SIDE)).astype(
            "float32" if dtype == FULL else dtype
        )
        precision = jax.lax.Precision.HIGHEST if dtype == FULL else None
        rates[dtype] = (
            2
            * _SIDE**3
            / _best(functools.partial(jnp.matmul, precision=precision), (matrix, matrix), repeats)
        )
    array = jnp.zeros(_COPIED // 4, jnp.float32)
    seconds = _best(lambda values: values + 1, (array,), repeats)
    return Ceilings(rates, 2 * _COPIED / seconds)


def _best(function: Callable, arguments: tuple, repeats: int) -> float:
    call = compiled(jax.jit(function).lower(*arguments))
    jax.block_until_ready(call(*arguments))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def backend_of(model: SentenceModel, batch: TokenBatch, edge_budget: int | None) -> str:
    """What computes the graph of such a batch, "auto" resolved: dense, blockwise or sparse."""
    names = []

    def look(hidden: jax.Array, mask: jax.Array) -> None:
        names.append(type(model.stem(hidden, mask, edge_budget=edge_budget)).__name__)

    jax.eval_shape(look, batch.hidden, batch.mask)
    return names[0].removesuffix("Graph").lower()


def ceilings_of(states_dtype: str, dtype: str) -> tuple[str, ...]:
    """What `measure_ceilings` is asked for, for states and a head of these dtypes; in a fixed
    order, so that it is measured once.
    """
    return tuple(sorted({dtype, "float32", FULL if states_dtype == "float32" else states_dtype}))


def _in_turn(batches: list[TokenBatch]) -> Iterator[TokenBatch]:
    while True:
        yield from batches


def _train(steps: Steps, holder: list[TrainState], batch: TokenBatch) -> Any:
    holder[0], logs = steps.train(holder[0], batch)
    return logs["loss"], holder[0]["step"]


def measure_ms(call: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """(first quartile, median, third quartile) of milliseconds a call, after a warm-up; each
    measurement ends when the device does.
    """
    for _ in range(2):
        jax.block_until_ready(call())
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    calls = max(1, round(_ENOUGH / max(time.perf_counter() - begin, 1e-9)))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)
        seconds.append(1000 * (time.perf_counter() - begin) / calls)
    if repeats == 1:
        return seconds[0], seconds[0], seconds[0]
    return tuple(statistics.quantiles(seconds, n=4, method="inclusive"))  # type: ignore[return-value]


def _trace(folder: Path, call: Callable[[], Any]) -> None:
    with jax.profiler.trace(folder, create_perfetto_trace=True):
        for number in range(_TRACED):
            with jax.profiler.StepTraceAnnotation("step", step_num=number):
                jax.block_until_ready(call())


# --------------------------------------------------------------------------------------------------
# The command


def run_profile(config: ProfileConfig) -> list[Profile]:
    """Profile the config's head at its shape (or at every bucket of its store) and the variants it
    names.
    """
    keep_memory()  # as the trainer does
    variants = [(config.graph, config.pooler), *(vary(config, name) for name in config.compare)]
    for graph, pooler in variants:
        check_names(graph, pooler)
    profiles = []
    for shape, batches in _shapes(config):
        for number, (graph, pooler) in enumerate(variants):
            if config.store is None and not config.states_dtype:
                batches = [
                    dataclasses.replace(batch, hidden=batch.hidden.astype(pooler.dtype))
                    for batch in batches
                ]
            trace = config.trace
            if trace is not None and (shape or number):
                trace = trace / f"{shape}-{number}"
            profiles.append(
                profile_head(
                    graph,
                    pooler,
                    batches,
                    repeats=config.repeats,
                    forward_only=config.forward_only,
                    trace=trace,
                )
            )
    require(
        bool(profiles),
        "--store holds rows enough for a batch",
        config.store,
        "Give a smaller --batch-size.",
    )
    return profiles


def vary(config: ProfileConfig, name: str) -> tuple[GraphConfig, PoolerConfig]:
    """The config's head with one thing changed, named by what it becomes: a backend, a dtype or a
    pooler.
    """
    if name in SELECTABLE:
        return dataclasses.replace(config.graph, backend=name), config.pooler
    if name in ("float32", "bfloat16"):
        return config.graph, dataclasses.replace(config.pooler, dtype=name)
    if name in POOLERS:
        return config.graph, dataclasses.replace(config.pooler, pooler=name)
    known = ", ".join([*SELECTABLE, "float32", "bfloat16", *POOLERS])
    raise UsageError("--compare names backends, dtypes and poolers", repr(name), f"Known: {known}.")


def _shapes(config: ProfileConfig) -> Iterator[tuple[int, list[TokenBatch]]]:
    if config.store is None:
        dtype = config.states_dtype or "float32"
        yield (
            0,
            [
                synthetic_batch(
                    dim=config.dim,
                    length=config.length,
                    batch_size=config.batch_size,
                    tokens_per_text=config.tokens_per_text,
                    dtype=dtype,
                    seed=config.seed + number,
                )
                for number in range(_BATCHES)
            ],
        )
        return
    run = prepare(
        TrainConfig(
            store=config.store,
            out=Path("unwritten"),
            batch_size=config.batch_size,
            buckets=config.buckets,
            seed=config.seed,
            graph=dataclasses.replace(config.graph, backend="dense"),
            pooler=config.pooler,
        ),
        Display(quiet=True),
        {},
    )
    feed = run.feeds["train"]
    for length in feed.plan.bounds:
        # Full batches first: the partial one is there for stores and buckets that hold no full one.
        steps = [
            step for step in range(feed.plan.steps_per_epoch) if feed.plan(step).length == length
        ]
        steps.sort(key=lambda step: bool((feed.plan(step).rows < 0).any()))
        batches = [feed.batch(step) for step in steps[:_BATCHES]]
        if batches:
            yield length, [_as_texts(batch) for batch in batches]


def _as_texts(batch: TokenBatch) -> TokenBatch:
    """Every text a row of its own, of one class or the other: what is measured is the pooling
    head.
    """
    hidden, mask = jnp.asarray(batch.hidden), jnp.asarray(batch.mask)
    return TokenBatch(
        hidden, mask, jnp.arange(len(mask), dtype=jnp.int32) % 2, jnp.ones(len(mask), bool)
    )


def scatter_warning(backend: str) -> str | None:
    """A known fault of XLA on NVIDIA GPUs that makes the sparse backend hundreds of times slower,
    where it applies.
    """
    if backend != "sparse" or jax.default_backend() != "gpu":
        return None
    digits = re.findall(r"(?:^|\.)(\d*)", jaxlib.__version__)[:3]
    version = tuple(int(number or 0) for number in digits)
    if (0, 10, 2) <= version <= (0, 11, 0):
        return (
            f"warning: jaxlib {jaxlib.__version__} adds float32 by atomics that were up to 450"
            " times slower in 0.10.2 to 0.11.0 on CUDA; the sparse backend scatters, so use dense"
            " or blockwise, or another jaxlib"
        )
    return None


def to_json(profiles: list[Profile]) -> dict[str, Any]:
    """One object: the first profile's values, and all of them under "profiles" where there are
    several.
    """
    values = [
        {**dataclasses.asdict(profile), "over_floor": profile.over_floor} for profile in profiles
    ]
    return {**values[0], **({"profiles": values} if len(values) > 1 else {})}


def print_profiles(
    profiles: list[Profile], console: Console | None = None, ceilings: Ceilings | None = None
) -> None:
    """A table, a row a profile.

    `ceilings`: those that were measured against, if they were given to `profile_head`.
    """
    # A file or a notebook has no width of its own, and the table has many columns.
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    first = profiles[0]
    if ceilings is None:
        ceilings = measure_ceilings(ceilings_of(first.states_dtype, first.dtype))
    rates = ", ".join(
        f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in ceilings.flops.items()
    )
    console.print(
        f"{first.device}: matmul {rates}; copy {ceilings.bandwidth / 1e9:,.1f} GB/s; jax"
        f" {jax.__version__}"
    )
    what = "A training step" if any(of.step_ms is not None for of in profiles) else "A forward pass"
    table = Table(title=f"{what} of the pooling head; times in ms")
    for column in (
        "pooler",
        "backend",
        "dtype",
        "states",
        "texts x length x dim",
        "real",
        "density",
        "forward",
        "step",
        "25–75 %",
        "floor",
        "time / floor",
        "peak",
        "compile s",
        "fusions",
        "scatters",
        "compilations",
    ):
        table.add_column(
            column,
            justify="left" if column in ("pooler", "backend", "dtype", "states") else "right",
        )
    for of in profiles:
        step, spread = (
            (of.forward_ms, of.forward_spread_ms)
            if of.step_ms is None
            else (of.step_ms, of.step_spread_ms)
        )
        floor = of.forward_floor_ms if of.floor_ms is None else of.floor_ms
        assert spread is not None
        table.add_row(
            of.pooler,
            of.backend,
            of.dtype,
            of.states_dtype,
            f"{of.texts} x {of.length} x {of.dim}",
            f"{of.tokens / (of.texts * of.length):.0%}",
            "" if of.density is None else f"{of.density:.1%}",
            f"{of.forward_ms:.2f}",
            "" if of.step_ms is None else f"{step:.2f}",
            f"{spread[0]:.2f}–{spread[1]:.2f}",
            f"{floor:.2f}",
            f"{of.over_floor:.2f}",
            f"{of.peak_bytes / 1e6:,.0f} MB",
            f"{of.compile_seconds:.1f}",
            f"{of.fusions}",
            f"{of.scatters}",
            f"{of.compilations}",
        )
    console.print(table)
    for of in profiles:
        if of.flops is not None and of.bytes is not None:
            console.print(
                f"{of.pooler} {of.backend} {of.dtype}: XLA counts {of.flops / 1e9:.2f} GFLOP and"
                f" {of.bytes / 1e6:,.0f} MB accessed in a"
                f" {'step' if of.step_ms is not None else 'pass'}"
            )

"""One training step of a pooling head, against what the machine can do.

A step takes states and mask as arguments, new values each time: graph, forward, loss, gradient,
Adam. It is the trainer's own compiled step, so what is measured is what trains.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs.from_states import require_k_within
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.objectives import TaskSpec
from glot_jax.pooling import count_parameters
from glot_jax.profiling.ceilings import Ceilings, ceilings_of, measure_ceilings
from glot_jax.profiling.floor import work_of
from glot_jax.profiling.program import backend_of, inspect_program, scatter_warning
from glot_jax.profiling.timing import Timing, time_throughput
from glot_jax.training.edge_budgets import is_sparse, power_of_two
from glot_jax.training.optimizer import optimizer_maker
from glot_jax.training.step_functions import Numbers, TrainState
from glot_jax.training.steps import Steps, edge_counter, init_state
from glot_jax.xla.cpu_options import XlaCpuOptions

PROFILE_TASK = TaskSpec(
    "profile",
    ("text",),
    ("text",),
    "label",
    "classes",
    ("no", "yes"),
    metrics=("accuracy",),
)
_TOTAL_STEPS = 1 << 20  # of the schedule: more than anybody measures
_TRACED_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Profile:
    """One variant of a head at one shape.

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

    @property
    def below_floor(self) -> bool:
        """Whether a time is less than its floor: then the ceiling was measured too low."""
        if self.forward_ms < self.forward_floor_ms:
            return True
        return self.over_floor < 1


def profile_head(
    graph: GraphConfig,
    pooler: PoolerConfig,
    batches: Sequence[TokenBatch],
    *,
    repeats: int = 20,
    forward_only: bool = False,
    ceilings: Ceilings | None = None,
    trace: Path | None = None,
    xla_options: XlaCpuOptions = "default",
) -> Profile:
    """Compile and time a head of this config.

    Args:
        graph: rule and backend of the token graph.
        pooler: settings of the head.
        batches: of one shape, taken in turn: a step must not be able to remember.
        repeats: measurements of each time.
        forward_only: leave out the training step.
        ceilings: what the machine can do. Default: measured once in this process.
        trace: folder for a trace of a few steps.
        xla_options: who multiplies matrices on a CPU; see `xla.cpu_options`.

    Raises:
        UsageError: unknown names, or a backend that cannot do what is asked.
    """
    head = Head(graph, pooler, batches, xla_options)
    times = head.time(repeats, forward_only=forward_only)
    if trace is not None:
        head.write_trace(trace, forward_only=forward_only)
    backend = head.backend(forward_only=forward_only)
    warning = scatter_warning(backend)
    if warning is not None:
        print(warning, file=sys.stderr)
    # After the timing: what is inspected is what ran.
    program = inspect_program(
        head.steps,
        head.state,
        batches[0],
        backend=backend,
        forward_only=forward_only,
    )
    if ceilings is None:
        ceilings = measure_ceilings(ceilings_of(head.shape.states_dtype, pooler.dtype))
    # None where only the forward pass was timed, and so is all that belongs to the step.
    step = times.step
    tokens = [lengths.sum() for lengths in head.shape.lengths]
    return Profile(
        device=jax.local_devices()[0].device_kind,
        pooler=pooler.pooler,
        backend=backend,
        dtype=pooler.dtype,
        states_dtype=head.shape.states_dtype,
        dim=head.shape.dim,
        length=head.shape.length,
        texts=head.shape.texts,
        tokens=round(float(np.mean(tokens))),
        density=head.edges.density,
        forward_ms=times.forward.median_ms,
        forward_spread_ms=times.forward.spread_ms,
        forward_floor_ms=head.floor_ms(ceilings, train=False),
        forward_peak_bytes=program.forward_peak_bytes,
        step_ms=None if step is None else step.median_ms,
        step_spread_ms=None if step is None else step.spread_ms,
        floor_ms=None if step is None else head.floor_ms(ceilings, train=True),
        peak_bytes=program.peak_bytes,
        compile_seconds=program.compile_seconds,
        flops=program.flops,
        bytes=program.bytes,
        fusions=program.fusions,
        scatters=program.scatters,
        compilations=program.compilations,
    )


@dataclasses.dataclass(frozen=True)
class HeadTimes:
    """Times of a forward pass and of a training step."""

    forward: Timing
    step: Timing | None
    """None: only the forward pass was timed."""


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """The shape that all batches of a profile have, and the lengths in which they differ."""

    texts: int
    length: int
    """Padded."""
    dim: int
    states_dtype: str
    lengths: tuple[np.ndarray, ...]
    """Real tokens [texts] of each batch."""

    @classmethod
    def measure(cls, batches: Sequence[TokenBatch]) -> BatchShape:
        """The shape of the first batch, and the lengths of all."""
        hidden = batches[0].hidden
        texts, length, dim = hidden.shape
        lengths = []
        for batch in batches:
            mask = np.asarray(batch.mask)
            # int64: squares of long texts do not fit 32 bits.
            lengths.append(mask.sum(1, dtype=np.int64))
        return cls(texts, length, dim, str(hidden.dtype), tuple(lengths))


@dataclasses.dataclass(frozen=True)
class EdgeCount:
    """Edges of the batches of a profile, and the budget of the sparse backend."""

    density: float | None = None
    """Edges over pairs of real tokens; None: the pooler looks at no edge."""
    budget: int | None = None
    """Edges that a batch may hold; None: the backend needs no budget."""


class Head:
    """A compiled head and its training state, on batches of one shape.

    Args:
        graph: rule and backend of the token graph.
        pooler: settings of the head.
        batches: of one shape.
        xla_options: who multiplies matrices on a CPU; see `xla.cpu_options`.

    Raises:
        UsageError: unknown names, or a backend that cannot do what is asked.
    """

    def __init__(
        self,
        graph: GraphConfig,
        pooler: PoolerConfig,
        batches: Sequence[TokenBatch],
        xla_options: XlaCpuOptions = "default",
    ):
        self.graph = graph
        self.pooler = pooler
        self.batches = batches
        self.shape = BatchShape.measure(batches)
        # The layer and the kind cost nothing: one layer is read, and a kind only moves `cls`.
        spec = ModelSpec(
            dim=self.shape.dim,
            layers=(0,),
            mixed=False,
            kind="encoder",
            task=PROFILE_TASK,
        )
        self.model = SentenceModel(
            spec,
            graph=graph,
            pooler=pooler,
            objective=ObjectiveConfig(),
            rngs=nnx.Rngs(0),
        )
        self.edges = self._count_edges()
        # Edges are counted before anything is compiled: the budget is a shape of the program.
        budgets = {}
        if self.edges.budget is not None:
            budgets[self.shape.texts, self.shape.length] = self.edges.budget
        # Split as in training: parameters are arguments of the step, not constants.
        graphdef, params, stats = split_model(self.model)
        make_optimizer = optimizer_maker(OptimizerConfig(), 1, _TOTAL_STEPS)
        self.steps = Steps(graphdef, make_optimizer, budgets, _TOTAL_STEPS, xla_options)
        numbers = Numbers.from_config(OptimizerConfig(), graph, pooler)
        self.state: TrainState = init_state(params, stats, make_optimizer, numbers, 0)

    def _count_edges(self) -> EdgeCount:
        if not (self.model.pooler.uses_edges and self.pooler.num_layers):
            return EdgeCount()
        require_k_within(self.graph, self.shape.length)
        count = edge_counter(self.model.stem)
        edges = []
        for batch in self.batches:
            of_each_text = count(batch.hidden, batch.mask)
            edges.append(int(np.sum(of_each_text)))
        # Pairs of real tokens, their own loops included; padding has no edges.
        pairs = sum(int(np.square(lengths).sum()) for lengths in self.shape.lengths)
        density = sum(edges) / max(1, pairs)
        # The budget holds the fullest batch: a step that drops edges computes another head.
        return EdgeCount(density, self._budget(max(edges)))

    def _budget(self, edges: int) -> int | None:
        """The budget of batches with at most this many edges."""
        # As the trainer rounds, so that the measured program is the trained one.
        needed = power_of_two(edges)
        if self.graph.backend == "sparse":
            budget = self.graph.edge_budget or needed
            if budget < edges:
                raise UsageError(
                    rule="--edge-budget must hold the edges of every batch",
                    got=f"{budget:,} for {edges:,}",
                    fix=f"Give {needed}.",
                )
            return budget
        # A learned threshold has soft edges, which the dense backend alone can do.
        if self.graph.backend == "auto" and not self.graph.learn_tau:
            sparse = is_sparse(self.shape.texts, self.shape.length, needed)
            if sparse:
                return needed
            return None
        return None

    def backend(self, *, forward_only: bool) -> str:
        """What computes the graph, "auto" resolved: dense, blockwise or sparse."""
        # Hard edges of a learned threshold may be blockwise, but it is trained on soft ones.
        if self.graph.learn_tau and not forward_only:
            return "dense"
        return backend_of(self.model, self.batches[0], self.edges.budget)

    def time(self, repeats: int, *, forward_only: bool) -> HeadTimes:
        """Time the forward pass, and then the training step unless it is left out."""
        forward = time_throughput(self._forward_calls(), repeats)
        if forward_only:
            return HeadTimes(forward, None)
        return HeadTimes(forward, time_throughput(self._step_calls(), repeats))

    def write_trace(self, folder: Path, *, forward_only: bool) -> None:
        """Write a trace of a few steps, for Perfetto or TensorBoard."""
        # Warm by now: the trace shows no compilation.
        call = self._forward_calls() if forward_only else self._step_calls()
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            for number in range(_TRACED_STEPS):
                with jax.profiler.StepTraceAnnotation("step", step_num=number):
                    jax.block_until_ready(call())

    def _forward_calls(self) -> Callable[[], Any]:
        source = itertools.cycle(self.batches)
        return lambda: self.steps.evaluate(self.state, next(source))

    def _step_calls(self) -> Callable[[], Any]:
        source = itertools.cycle(self.batches)

        def step() -> tuple[jax.Array, jax.Array]:
            # The old state's buffers are donated to the step, which leaves a new one.
            self.state, logs = self.steps.train(self.state, next(source))
            return logs["loss"], self.state["step"]

        return step

    def floor_ms(self, ceilings: Ceilings, *, train: bool) -> float:
        """The least time of a training step or a forward pass, on average over the batches."""
        parameters = count_parameters(self.model)
        # The mean of the floors, not the floor of a mean length: pairs grow with its square.
        seconds = []
        for lengths in self.shape.lengths:
            work = work_of(
                self.model.stem,
                self.model.pooler,
                lengths=lengths,
                states_dtype=self.shape.states_dtype,
                parameters=parameters,
                train=train,
            )
            seconds.append(work.seconds(ceilings))
        return 1000 * float(np.mean(seconds))

"""Where the time of a training step goes, operation by operation, and what its floor would be.

    python benchmarks/step_trace.py [--shapes NAME ...] [--top N] [--xla-cpu-options eigen|xla]

The trainer's own step is run under JAX's profiler, and each of XLA's operations gets the time that
it had: an instant in which two of them run counts half for each. Beside it stands the time that
their products need at the machine's ceiling (`glot_jax.profiling.ceilings`). What is left is said
by place in the model, and by operation. Of every operation, and of the step, the time is the
tenth percentile over the traced steps: other work makes them longer, nothing makes them shorter.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from benchmark import Benchmark, run
from jax.profiler import ProfileData

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.dispatch.memory import keep_memory
from glot_jax.profiling.ceilings import Ceilings, ceilings_of, measure_ceilings
from glot_jax.profiling.head import Head
from glot_jax.profiling.shapes import synthetic_batch
from glot_jax.xla.cpu_options import XlaCpuOptions

BATCH = 32
TRACED_STEPS = 10
TAU = 0.6
ENCLOSING = ("conditional", "while", "call")
"""Operations whose time is that of the operations inside them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTrace(Benchmark):
    """What the time of a training step goes to."""

    shapes: tuple[str, ...] = ("384x16", "384x128", "768x128")
    """DIMxLENGTH; texts are not padded."""
    hidden_dim: int = 128
    top: int = 10
    """Operations that are named."""
    traces: int = 4
    """Traces of ten steps each."""
    repeats: int = 20
    """Measurements of the step without a trace."""
    xla_cpu_options: XlaCpuOptions = "default"

    def smaller(self) -> StepTrace:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, shapes=("16x4",), hidden_dim=8, traces=1, repeats=1)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An instruction of the compiled program."""

    kind: str
    """Opcode: fusion, dot, copy."""
    shape: str
    """Of its result."""
    place: str
    """Scopes of the model that it belongs to, and whether it is of the gradient."""
    flops: float
    """Of the products in it."""


def read_program(text: str) -> dict[str, Operation]:
    """Every instruction of a compiled program, by its name."""
    computations: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        begins = re.match(r"(?:ENTRY )?%([\w.\-]+) .*\{$", line)
        if begins:
            current = computations.setdefault(begins[1], [])
        elif line.startswith("  "):
            current.append(line.strip().removeprefix("ROOT "))
    flops: dict[str, float] = {}
    for name, lines in computations.items():
        flops[name] = sum(product_flops(lines).values())
    operations = {}
    for lines in computations.values():
        own = product_flops(lines)
        for line in lines:
            parts = re.match(r"%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(", line)
            if parts is None:
                continue
            name, shape, kind = parts.groups()
            called = re.search(r"calls=%([\w.\-]+)", line)
            place = place_of(line)
            products = own.get(name, 0.0)
            if called is not None:
                products += flops[called[1]]
                place = place or common_place(computations[called[1]])
            shape = re.sub(r"\{.*?\}", "", shape)
            operations[name] = Operation(kind, shape, place or "no name", products)
    return operations


def common_place(lines: Iterable[str]) -> str | None:
    """The place of most of a computation's instructions."""
    places = [place for place in map(place_of, lines) if place is not None]
    return max(set(places), key=places.count, default=None)


def product_flops(lines: Iterable[str]) -> dict[str, float]:
    """Floating-point operations of the dots among the instructions of a computation."""
    sizes: dict[str, list[int]] = {}
    flops = {}
    for line in lines:
        parts = re.match(r"%([\w.\-]+) = \w+\[([\d,]*)\]", line)
        if parts is None:
            continue
        sizes[parts[1]] = [int(size) for size in parts[2].split(",") if size]
        dot = re.search(r" dot\(%([\w.\-]+), .*?lhs_contracting_dims=\{([\d,]*)\}", line)
        if dot is not None:
            left = sizes[dot[1]]
            summed = [left[int(axis)] for axis in dot[2].split(",") if axis]
            flops[parts[1]] = 2.0 * math.prod(sizes[parts[1]]) * math.prod(summed)
    return flops


def place_of(line: str) -> str | None:
    """Where in the model an instruction stands, `readout, backward`; None: it does not say."""
    named = re.search(r'op_name="(.*?)"', line)
    if named is None:
        return None
    name = named[1]
    if not name.startswith("jit("):
        # An argument that is only copied or reshaped.
        return "arguments"
    scopes = [
        scope for scope in ("optimizer", "token_graph", "token_gnn", "readout") if scope in name
    ]
    if "optimizer" in scopes:
        return "optimizer"
    scope = scopes[0] if scopes else "head, loss, rest"
    return f"{scope}, backward" if "transpose(" in name else f"{scope}, forward"


@dataclasses.dataclass(frozen=True)
class Interval:
    """An operation that ran, in nanoseconds."""

    name: str
    begin: float
    end: float


def read_trace(folder: Path) -> tuple[list[Interval], list[Interval]]:
    """Operations and steps of a trace."""
    (path,) = folder.glob("**/*.xplane.pb")
    operations: list[Interval] = []
    steps: list[Interval] = []
    finished: dict[str, list[float]] = defaultdict(list)
    for plane in ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                end = event.start_ns + event.duration_ns
                stats = dict(event.stats)
                if event.name == "step":
                    steps.append(Interval("step", event.start_ns, end))
                elif "hlo_op" in stats:
                    operations.append(Interval(str(stats["hlo_op"]), event.start_ns, end))
                elif event.name.startswith("end: "):
                    finished[event.name.removeprefix("end: ")].append(event.start_ns)
    return list(with_real_ends(operations, finished)), steps


def with_real_ends(
    operations: Iterable[Interval],
    finished: dict[str, list[float]],
) -> Iterator[Interval]:
    """The operations until they are done.

    What is handed to other threads returns before that, and its end is an event of its own.
    """
    for operation in operations:
        ends = [end for end in finished[operation.name] if end >= operation.begin]
        yield dataclasses.replace(operation, end=max(operation.end, min(ends, default=0)))


def wall_by_name(operations: list[Interval]) -> dict[str, float]:
    """Nanoseconds of each operation; an instant that several share is divided among them."""
    moments = [(operation.begin, 1, operation.name) for operation in operations]
    moments += [(operation.end, -1, operation.name) for operation in operations]
    running: dict[str, int] = defaultdict(int)
    walls: dict[str, float] = defaultdict(float)
    before = 0.0
    for moment, change, name in sorted(moments):
        count = sum(running.values())
        for other, times in running.items():
            if times:
                walls[other] += (moment - before) * times / count
        running[name] += change
        before = moment
    return dict(walls)


@dataclasses.dataclass(frozen=True)
class Traced:
    """Seconds of a traced step."""

    step: float
    operations: dict[str, float]
    """By name, those that enclose others left out."""


def trace_steps(head: Head, bench: StepTrace, operations: dict[str, Operation]) -> Traced:
    """Trace a few steps."""
    spent: dict[str, list[float]] = defaultdict(list)
    lasted: list[float] = []
    for _ in range(bench.traces):
        with tempfile.TemporaryDirectory() as folder:
            write_trace(head, folder)
            intervals, steps = read_trace(Path(folder))
        intervals = [
            interval
            for interval in intervals
            if interval.name in operations and operations[interval.name].kind not in ENCLOSING
        ]
        for step in steps:
            lasted.append(step.end - step.begin)
            within = [it for it in intervals if step.begin <= it.begin <= step.end]
            for name, wall in wall_by_name(within).items():
                spent[name].append(wall)
    times = {name: undisturbed(walls) for name, walls in spent.items()}
    return Traced(undisturbed(lasted), times)


def undisturbed(nanoseconds: list[float]) -> float:
    """Seconds: the tenth percentile."""
    return float(np.quantile(nanoseconds, 0.1)) / 1e9


def write_trace(head: Head, folder: str) -> None:
    """A few steps, without the calls of Python in them, which would take as long as a short one."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        for number in range(TRACED_STEPS):
            batch = head.batches[number % len(head.batches)]
            with jax.profiler.StepTraceAnnotation("step", step_num=number):
                head.state, logs = head.steps.train(head.state, batch)
                jax.block_until_ready((head.state["step"], logs))


def train_program(head: Head) -> str:
    """The compiled training step as text."""
    for (name, *_), executable in head.steps.executables.finished().items():
        if name == "train":
            return str(executable.as_text())
    raise LookupError("no training step was compiled")


def measure(bench: StepTrace, shape: str, ceilings: Ceilings) -> dict[str, Any]:
    """Times of one shape."""
    dim, length = (int(size) for size in shape.split("x"))
    batches = [
        synthetic_batch(dim=dim, length=length, batch_size=BATCH, seed=seed) for seed in range(2)
    ]
    pooler = PoolerConfig(hidden_dim=bench.hidden_dim)
    head = Head(GraphConfig(tau=TAU), pooler, batches, xla_options=bench.xla_cpu_options)
    step = head.time(bench.repeats, forward_only=False).step
    assert step is not None
    operations = read_program(train_program(head))
    traced = trace_steps(head, bench, operations)
    rate = ceilings.flops["float32"]
    rows = []
    for name, seconds in sorted(traced.operations.items(), key=lambda item: -item[1]):
        operation = operations[name]
        rows.append(
            {
                "name": name,
                **dataclasses.asdict(operation),
                "ms": 1000 * seconds,
                "floor_ms": 1000 * operation.flops / rate,
            }
        )
    floor = head.floor_ms(ceilings, train=True)
    traced_ms = 1000 * traced.step
    return {
        "shape": shape,
        "hidden": bench.hidden_dim,
        "batch": BATCH,
        "step_ms": step.median_ms,
        "step_quartiles_ms": step.spread_ms,
        "traced_ms": traced_ms,
        "floor_ms": floor,
        "over_floor": traced_ms / floor,
        "between_ms": traced_ms - sum(row["ms"] for row in rows),
        "operations": rows,
    }


def by_place(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Place in the model, milliseconds, and milliseconds of its products at the ceiling."""
    times: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        place = row["place"] if row["kind"] != "copy" else "copies"
        times[place][0] += row["ms"]
        times[place][1] += row["floor_ms"]
    ordered = sorted(times.items(), key=lambda item: -item[1][0])
    return [(place, ms, floor) for place, (ms, floor) in ordered]


def print_shape(bench: StepTrace, result: dict[str, Any]) -> None:
    """The step, its places, and its largest operations."""
    step_ms = result["traced_ms"]
    print(
        f"\n{result['shape']}, hidden {result['hidden']}: step {result['step_ms']:.2f} ms, traced"
        f" {step_ms:.2f}, floor {result['floor_ms']:.2f}: {result['over_floor']:.2f} times"
    )
    print(f"  {'place':26}      ms   share   its products at the ceiling, ms")
    for place, ms, floor in by_place(result["operations"]):
        print(f"  {place:26} {ms:7.3f} {ms / step_ms:7.1%} {floor:7.3f}")
    between = result["between_ms"]
    print(f"  {'between operations':26} {between:7.3f} {between / step_ms:7.1%}")
    print(f"  {'operation':26}      ms   share   its products at the ceiling, ms")
    for row in result["operations"][: bench.top]:
        print(
            f"  {row['name'][:26]:26} {row['ms']:7.3f} {row['ms'] / step_ms:7.1%}"
            f" {row['floor_ms']:7.3f}  {row['shape']}  {row['place']}"
        )


def main(bench: StepTrace) -> None:
    """Trace shape by shape."""
    keep_memory()
    ceilings = measure_ceilings(ceilings_of("float32", "float32"))
    rate = ceilings.flops["float32"] / 1e9
    print(f"at most {rate:.0f} GFLOP/s ({ceilings.reached_by['float32']})")
    results = []
    for shape in bench.shapes:
        result = measure(bench, shape, ceilings)
        jax.clear_caches()
        print_shape(bench, result)
        results.append(result)
    values = {"ceilings": dataclasses.asdict(ceilings), "tau": TAU, "shapes": results}
    bench.write("step_trace", values)


if __name__ == "__main__":
    run(StepTrace, main)

"""One step of the pooling head: ours against PyTorch's, in one run.

PyTorch Geometric's head, and a dense batched one, eager and compiled.

    python benchmarks/head.py [--shapes NAME ...] [--repeats N] [--seconds S] [--memory own|kept]

Every contender gets the same weights and the same batches, new ones each step; outputs are compared
before anything is timed. A training step is: states and mask as arguments -> graph -> forward ->
cross entropy -> gradient -> Adam. Each has a process of its own, as it has in use, with memory as
its own users have it: ours as `train` sets malloc (glot_jax/dispatch/memory.py), PyTorch's as glibc
does; with `--memory kept` all as `train`. They take turns, so that what disturbs the machine
disturbs all; ratios are medians of a round's ratios. The floor stands on the best ceiling of all
that are measured, one before the first shape and one after each.

On a GPU: `JAX_PLATFORMS=cuda XLA_PYTHON_CLIENT_PREALLOCATE=false python benchmarks/head.py --name
head-gpu`; PyTorch then multiplies in TF32, as XLA does.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from typing import Any, Literal

import jax
import numpy as np
from benchmark import Benchmark, require_equal, run
from head_contenders import (
    LAYERS,
    NAMES,
    TAU,
    Kind,
    Process,
    Shape,
    build_model,
    make_batches,
    needed_gib,
)

from glot_jax.dispatch.memory import keep_memory
from glot_jax.pooling import count_parameters
from glot_jax.profiling.ceilings import (
    FULL,
    Ceilings,
    best_of,
    forget_ceilings,
    measure_ceilings,
)
from glot_jax.profiling.floor import work_of
from glot_jax.training.steps import edge_counter

MOST_GIB = 16
"""A contender that needs more by its own arithmetic is not run."""
KINDS: tuple[Kind, ...] = ("step", "forward")

# The first three shapes of the table in docs/results, then every length at every width. About 11
# tokens, padded to 12: a batch of CoLA's as the trainer's buckets make it.
SHAPES = (
    Shape(768, 256, 128),
    Shape(4096, 64, 128),
    Shape(384, 128, 12, 11),
    Shape(768, 256, 12, 11),
    Shape(768, 256, 512),
    Shape(768, 256, 2048),
    Shape(768, 256, 8192),
    Shape(384, 128, 128),
    Shape(384, 128, 512),
    Shape(384, 128, 2048),
    Shape(384, 128, 8192),
    Shape(4096, 64, 12, 11),
    Shape(4096, 64, 512),
    Shape(4096, 64, 2048),
    Shape(4096, 64, 8192),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadBenchmark(Benchmark):
    """Training step and forward pass of every contender, shape by shape."""

    shapes: tuple[str, ...] = tuple(shape.name for shape in SHAPES)
    """DIMxLENGTH, of those that this file lists."""
    repeats: int = 9
    """Rounds per shape, at least 3 even if they take longer than --seconds."""
    seconds: float = 60
    """Seconds of a shape's rounds, training and forward each."""
    memory: Literal["own", "kept"] = "own"
    """malloc as each contender's own users have it, or as `train` sets it for all."""
    name: str = "head"
    """Name of the results file."""

    def smaller(self) -> HeadBenchmark:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, shapes=("384x12",), repeats=1, seconds=0.1)


Times = dict[Kind, dict[str, dict[int, float]]]
"""Seconds by kind, contender and round. What takes long is measured in every third round only, and
ratios are taken within rounds.
"""


def start(bench: HeadBenchmark, shape: Shape, edges: int) -> dict[str, Process | str]:
    """A process for every contender, or why there is none."""
    contenders: dict[str, Process | str] = {}
    for name in NAMES:
        needed = needed_gib(name, shape, edges)
        if needed > MOST_GIB:
            contenders[name] = f"does not fit (needs {needed:.0f} GB)"
            continue
        kept = bench.memory == "kept" or name.startswith("ours")
        contenders[name] = Process(shape, name, edges, kept)
    return contenders


def require_same_results(contenders: dict[str, Process]) -> dict[str, float]:
    """Largest relative difference of every contender's logits from our blockwise backend's.

    Raises:
        Mismatch: the logits, the first loss, or the loss after one update differ.
    """
    expected = contenders["ours-blockwise"].run("forward", 0)
    differences = {}
    for name, contender in contenders.items():
        difference = np.abs(contender.run("forward", 0) - expected).max()
        differences[name] = float(difference / np.abs(expected).max())
        # An edge whose cosine is tau to the last bit may fall on either side.
        require_equal(f"logits of {name}", differences[name], 2e-3)
    # The loss after one update is that of equal gradients and equal Adam steps.
    for index, tolerance in ((0, 1e-3), (1, 2e-3)):
        losses = [float(contender.run("step", index)) for contender in contenders.values()]
        require_equal(f"losses of step {index}", max(losses) - min(losses), tolerance)
    for contender in contenders.values():
        contender.run("forward", 1)
    return differences


def measure_again(before: list[Ceilings]) -> Ceilings:
    """The best that this machine has reached in this run, now included."""
    forget_ceilings()
    before.append(measure_ceilings(("float32", FULL)))
    return best_of(before)


def floor_seconds(shape: Shape, kind: Kind, parameters: int, ceilings: Ceilings) -> float:
    """The time that this machine needs for the arithmetic and the traffic alone."""
    model = build_model(shape)
    seconds = []
    for batch in make_batches(shape):
        work = work_of(
            model.stem,
            model.pooler,
            lengths=np.asarray(batch.mask).sum(1),
            states_dtype="float32",
            parameters=parameters,
            train=kind == "step",
        )
        seconds.append(work.seconds(ceilings))
    return float(np.mean(seconds))


class Rounds:
    """Times of one shape, taken in turn until the repeats are done or the time is up."""

    def __init__(self, bench: HeadBenchmark, shape: Shape, contenders: dict[str, Process]):
        self.bench = bench
        self.shape = shape
        self.contenders = contenders
        self.times: Times = {kind: {name: {} for name in contenders} for kind in KINDS}
        self._slow: set[tuple[Kind, str]] = set()
        self._calls = 5

    def measure(self, tokens: int) -> None:
        """Run all rounds; `tokens` are the real ones of a batch."""
        if tokens > 2000:
            self._calls = 1
        for kind in KINDS:
            begin = time.perf_counter()
            for index in range(self.bench.repeats):
                if index >= 3 and time.perf_counter() - begin > self.bench.seconds:
                    break
                self._round(kind, index)

    def _round(self, kind: Kind, index: int) -> None:
        # Another one begins every round, so that nobody always comes after the same neighbour.
        order = list(self.contenders)
        first = index % len(order)
        for name in order[first:] + order[:first]:
            slow = (kind, name) in self._slow
            if slow and index % 3:
                continue  # what takes long anyway is measured in every third round
            contender = self.contenders[name]
            if not slow:
                # Steps follow one another in training; the first after somebody else's pays for
                # their caches.
                contender.time(kind, index, 1)
            spent = contender.time(kind, index * self._calls, self._calls) / self._calls
            self.times[kind][name][index] = spent
            if spent > self.bench.seconds / 10:
                self._slow.add((kind, name))

    def result_of(self, name: str) -> dict[str, Any]:
        """Medians and quartiles of one contender, in milliseconds."""
        result: dict[str, Any] = {}
        for kind in KINDS:
            seconds = list(self.times[kind][name].values())
            quartiles = np.quantile(seconds, (0.25, 0.75))
            result[f"{kind}_ms"] = 1000 * statistics.median(seconds)
            result[f"{kind}_quartiles_ms"] = [1000 * float(quartile) for quartile in quartiles]
        return result

    def comparison(self, kind: Kind, floor: float) -> dict[str, Any]:
        """The faster of our backends against all others and against the floor, in seconds."""
        by_name = self.times[kind]
        medians = {name: statistics.median(seconds.values()) for name, seconds in by_name.items()}
        ours = [name for name in medians if name.startswith("ours")]
        best = min(ours, key=lambda name: medians[name])
        faster = {name: median_ratio(seconds, by_name[best]) for name, seconds in by_name.items()}
        return {
            "ours": best,
            "times_faster_than": faster,
            "floor_ms": 1000 * floor,
            "over_floor": medians[best] / floor,
            # Nothing is: the ceiling was measured too low.
            "below_floor": min(by_name[best].values()) < floor,
        }


def median_ratio(above: dict[int, float], below: dict[int, float]) -> float:
    """Over the rounds that both were measured in; the first round is one of them."""
    return statistics.median(above[index] / below[index] for index in above.keys() & below.keys())


def compare(bench: HeadBenchmark, shape: Shape, before: list[Ceilings]) -> dict[str, Any]:
    """Times of all contenders at one shape; `before` are the ceilings that were measured so far."""
    batches = make_batches(shape)
    masks = [np.asarray(batch.mask) for batch in batches]
    model = build_model(shape)
    count = edge_counter(model.stem)
    linked = [int(np.sum(count(batch.hidden, batch.mask))) for batch in batches]
    lengths = [mask.sum(1, dtype=np.int64) for mask in masks]
    pairs = sum(int(np.square(length).sum()) for length in lengths)
    tokens = int(np.mean([mask.sum() for mask in masks]))
    everyone = start(bench, shape, max(linked))
    contenders = {name: it for name, it in everyone.items() if isinstance(it, Process)}
    differences = require_same_results(contenders)
    rounds = Rounds(bench, shape, contenders)
    rounds.measure(tokens)
    ceilings = measure_again(before)
    parameters = count_parameters(model)
    comparisons = {}
    for kind in KINDS:
        floor = floor_seconds(shape, kind, parameters, ceilings)
        comparisons[kind] = rounds.comparison(kind, floor)
    results: dict[str, Any] = {}
    for name, contender in everyone.items():
        if isinstance(contender, str):
            results[name] = contender
            continue
        contender.end()
        results[name] = {**rounds.result_of(name), "largest_difference": differences[name]}
    return {
        **dataclasses.asdict(shape),
        "batch": shape.batch,
        "real_tokens": tokens,
        "density": sum(linked) / pairs,
        "memory": bench.memory,
        "contenders": results,
        "ceilings": dataclasses.asdict(ceilings),
        **comparisons,
    }


def print_shape(result: dict[str, Any]) -> None:
    """Print the times of one shape, a line a contender."""
    print(
        f"\ndim {result['dim']}, hidden {result['hidden']}, length {result['length']}, batch"
        f" {result['batch']}, density {result['density']:.2f}"
    )
    step = result["step"]
    forward = result["forward"]
    for name, times in result["contenders"].items():
        if isinstance(times, str):
            print(f"  {name:16} {times}")
            continue
        print(
            f"  {name:16} step {times['step_ms']:9.1f} ms ({step['times_faster_than'][name]:5.2f}x)"
            f"   forward {times['forward_ms']:9.1f} ms"
            f" ({forward['times_faster_than'][name]:5.2f}x)"
        )
    print(
        f"  time / floor: step {step['over_floor']:.2f}, forward {forward['over_floor']:.2f}",
        flush=True,
    )
    for kind in KINDS:
        if result[kind]["below_floor"]:
            print(f"  {kind}: less than its floor, an error of the measure: take it again")


def kept_results(bench: HeadBenchmark) -> list[dict[str, Any]]:
    """What earlier runs measured of shapes that are not measured now: each stands by itself."""
    path = bench.results / f"{bench.name}.json"
    if not path.exists():
        return []
    others = {shape.name for shape in SHAPES} - set(bench.shapes)
    shapes = json.loads(path.read_text())["shapes"]
    return [shape for shape in shapes if f"{shape['dim']}x{shape['length']}" in others]


def main(bench: HeadBenchmark) -> None:
    """Compare the contenders shape by shape; `head.json` is written after each."""
    keep_memory()
    results = kept_results(bench)
    ceilings: list[Ceilings] = []
    measure_again(ceilings)
    for shape in SHAPES:
        if shape.name not in bench.shapes:
            continue
        result = compare(bench, shape, ceilings)
        jax.clear_caches()
        print_shape(result)
        results.append(result)
        settings = {"tau": TAU, "layers": LAYERS, "dtype": "float32"}
        bench.write(bench.name, {**settings, "shapes": results})


if __name__ == "__main__":
    run(HeadBenchmark, main)

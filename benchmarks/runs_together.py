"""Seeds of one run: their training steps one after another, on threads, and in one program.

    python benchmarks/runs_together.py --store STORE [--runs 1 3 5 10] [--poolers mean glot]

On a labelled store, at one padded length. Each way does the same blocks of steps with states and
batches of its own; they take turns, and a figure is the median over the turns. `alone`: a block of
each run in turn; `threads`: two threads that take the runs' blocks; `joint`:
`Steps.train_blocks`, all runs in one program. Writes benchmarks/results/runs_together.json.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmark import Benchmark, require_equal, run

from glot_jax.batches.placement import DeviceStates
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.dispatch.memory import keep_memory
from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.training.advance import on_device
from glot_jax.training.prepare import TrainingRun, prepare
from glot_jax.training.step_functions import TrainState
from glot_jax.training.steps import Block
from glot_jax.training.workspace import Workspace

Ended = list[tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunsTogether(Benchmark):
    """Steps of several runs."""

    store: Path
    poolers: tuple[str, ...] = ("mean", "glot")
    hidden_dims: tuple[int, ...] = (128, 256)
    """Of poolers that have one."""
    runs: tuple[int, ...] = (1, 3, 5, 10)
    steps: int = 20
    """Steps of a block."""
    repeats: int = 5

    def smaller(self) -> RunsTogether:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, hidden_dims=(8,), runs=(2,), steps=2, repeats=1)


def prepared(bench: RunsTogether, pooler: PoolerConfig, count: int) -> list[TrainingRun]:
    """Runs that differ by their seeds."""
    workspace = Workspace()
    runs = []
    for seed in range(count):
        config = TrainConfig(
            store=bench.store,
            # Nothing is written there.
            out=Path(tempfile.gettempdir()) / "runs-together",
            seed=seed,
            pooler=pooler,
            cache="device",
            buckets=1,
        )
        runs.append(prepare(config, Display(quiet=True), workspace))
    if any(run.steps is not runs[0].steps for run in runs):
        raise UsageError("the runs must share their programs", "some that do not", "Give --store.")
    return runs


def first_block(run: TrainingRun, steps: int) -> Block:
    """The first steps of a run."""
    feed = run.feeds["train"]
    states = feed.states
    if not isinstance(states, DeviceStates):
        raise UsageError("states must fit on the device", feed.states.location, "Cut the store.")
    planned = on_device(feed.planned(0, feed.plan.steps_per_epoch))
    first = jax.device_put(np.int32(0))
    return Block(
        states.tokens, planned, feed.plan.bounds[0], first, jax.device_put(np.int32(steps))
    )


def copies(runs: list[TrainingRun]) -> list[TrainState]:
    """The runs' untrained states: a block takes their memory."""
    return [jax.tree.map(lambda leaf: leaf.copy(), run.state) for run in runs]


def alone(runs: list[TrainingRun], states: list[TrainState], blocks: list[Block]) -> Ended:
    """One run after another."""
    ended = []
    for member, state, block in zip(runs, states, blocks, strict=True):
        ended.append(member.steps.train_block(state, block))
    return jax.block_until_ready(ended)


def threads(runs: list[TrainingRun], states: list[TrainState], blocks: list[Block]) -> Ended:
    """Two runs at a time."""

    def train(member: TrainingRun, state: TrainState, block: Block) -> Ended:
        return [jax.block_until_ready(member.steps.train_block(state, block))]

    with ThreadPoolExecutor(2) as pool:
        return [ended for (ended,) in pool.map(train, runs, states, blocks)]


def joint(
    keys: jax.Array, runs: list[TrainingRun], states: list[TrainState], blocks: list[Block]
) -> Ended:
    """All runs in one program."""
    return jax.block_until_ready(runs[0].steps.train_blocks(states, keys, blocks))


def losses(ended: Ended, steps: int) -> np.ndarray:
    """[runs, steps]."""
    return np.array([np.asarray(logs["loss"])[:steps] for _, logs in ended])


def measure(bench: RunsTogether, pooler: PoolerConfig, count: int) -> dict[str, Any]:
    """Milliseconds a step and run of every way, and how long their programs took to compile."""
    runs = prepared(bench, pooler, count)
    blocks = [first_block(run, bench.steps) for run in runs]
    keys = jnp.stack([jax.random.key_data(run.state["key"]) for run in runs])
    ways: dict[str, Callable[..., Ended]] = {
        "alone": alone,
        "threads": threads,
        "joint": functools.partial(joint, keys),
    }
    result: dict[str, Any] = {"length": blocks[0].length}
    # A GPU rounds what it multiplies to TensorFloat-32, and tunes each program by itself.
    tolerance = 1e-5 if jax.default_backend() == "cpu" else 5e-3
    expected = None
    for name, way in ways.items():
        begin = time.perf_counter()
        reached = losses(way(runs, copies(runs), blocks), bench.steps)
        result[f"{name}_first_seconds"] = round(time.perf_counter() - begin, 2)
        if expected is None:
            expected = reached
        difference = float(np.abs(reached - expected).max())
        result[f"{name}_difference"] = difference
        require_equal(f"losses of {name}", difference, tolerance)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(bench.repeats):
        for name, way in ways.items():
            # Copies are not timed: in training nobody makes them.
            states = jax.block_until_ready(copies(runs))
            begin = time.perf_counter()
            way(runs, states, blocks)
            seconds = time.perf_counter() - begin
            spent[name].append(1000 * seconds / bench.steps / count)
    result["ms"] = {name: statistics.median(values) for name, values in spent.items()}
    return result


def main(bench: RunsTogether) -> None:
    """Measure every pooler with every number of runs."""
    keep_memory()
    results = {}
    for name in bench.poolers:
        # The mean has no width.
        widths = bench.hidden_dims if name != "mean" else bench.hidden_dims[:1]
        for width in widths:
            for count in bench.runs:
                pooler = PoolerConfig(pooler=name, hidden_dim=width)
                result = measure(bench, pooler, count)
                label = name if name == "mean" else f"{name} {width}"
                results[f"{label}, {count} runs"] = result
                listed = ", ".join(f"{way} {value:.3f}" for way, value in result["ms"].items())
                print(f"{label}, {count} runs: {listed} ms a step and run", flush=True)
    settings = {"steps": bench.steps, "device": jax.devices()[0].device_kind}
    bench.write("runs_together", {**settings, "groups": results})


if __name__ == "__main__":
    run(RunsTogether, main)

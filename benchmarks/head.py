"""One step of the pooling head: ours against PyTorch Geometric's, eager and compiled dense PyTorch,
in one run.

    python benchmarks/head.py [--shapes NAME ...] [--repeats N] [--seconds S] [--memory own|kept]

Every contender gets the same weights and the same batches, new ones each step; outputs are compared
before anything is timed. A training step is: states and mask as arguments -> graph -> forward ->
cross entropy -> gradient -> Adam. Each has a process of its own, as it has in use, with memory as
its own users have it: ours as `train` sets malloc (glot_jax/training/memory.py), PyTorch's as glibc
does; with `--memory kept` all as `train`. They take turns, so that what disturbs the machine
disturbs all; ratios are medians of a round's ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import torch
from flax import nnx
from machine import RESULTS, write_result
from torch_heads import DenseHead, Head, PygHead

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, PoolerConfig
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.objectives import TaskSpec
from glot_jax.official.torch_checkpoint import to_official
from glot_jax.pooling import count_parameters
from glot_jax.profiling.floor import FULL, work_of
from glot_jax.profiling.head import measure_ceilings, synthetic_batch
from glot_jax.training.edge_budgets import power_of_two
from glot_jax.training.memory import keep_memory
from glot_jax.training.optimizer import build_optimizer, build_schedule
from glot_jax.training.steps import Steps, edge_counter, init_state, split_model

TAU, LAYERS, LR = 0.6, 2, 2e-4
MOST_GIB = 16  # a contender that needs more by its own arithmetic is not run
BATCHES = 2
_TASK = TaskSpec(
    "bench", ("text",), ("text",), "label", "classes", ("no", "yes"), metrics=("accuracy",)
)


@dataclasses.dataclass(frozen=True)
class Shape:
    dim: int
    hidden: int
    length: int
    tokens: float | None = None
    """Real tokens of a text on average; None: no padding."""

    @property
    def batch(self) -> int:
        return 32 if self.length <= 512 else max(1, 16_384 // self.length)

    @property
    def name(self) -> str:
        return f"{self.dim}x{self.length}"


# The three shapes of the README's table, then every length at every width. About 11 tokens, padded
# to 12: a batch of CoLA's as the trainer's buckets make it.
SHAPES = [
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
]


@dataclasses.dataclass
class Contender:
    step: Callable[[int], Any]
    """Train on batch i; its loss, which JAX may still be computing."""
    forward: Callable[[int], np.ndarray]
    """Logits of batch i."""
    wait: Callable[[], None] = lambda: None
    """Until every step begun is done."""


def needed_gib(name: str, shape: Shape, edges: int) -> float:
    """The largest arrays of a training step, by the contender's own arithmetic."""
    pairs = shape.batch * shape.length**2
    states = shape.batch * shape.length * shape.dim * 4
    floats = {
        # Two products of a sentence's pairs at a time; then source, values and weighted values of
        # every edge, per layer.
        "pyg-broadcast": (
            2 * 4 * shape.length**2 * shape.dim + edges * (16 + LAYERS * 4 * (2 * shape.hidden + 6))
        ),
        "pyg-matmul": edges * (16 + LAYERS * 4 * (2 * shape.hidden + 6)),
        # Logits, leaky logits and weights are kept per layer; as many are made on the way back.
        "torch-dense": pairs * 4 * (1 + 3 * LAYERS + 3),
        "torch-compiled": pairs * 4 * (1 + 2 * LAYERS + 2),
        "ours-dense": pairs * 4 * (1 + 2 * LAYERS + 2),
        "ours-sparse": power_of_two(edges) * (8 + LAYERS * 4 * (2 * shape.hidden + 6)),
        "ours-blockwise": pairs / 8 + 3 * 2**25 * 4,
    }[name]
    return (floats + 4 * states) / 2**30


def build_model(shape: Shape) -> SentenceModel:
    spec = ModelSpec(shape.dim, (0,), False, "encoder", _TASK)
    pooler = PoolerConfig(hidden_dim=shape.hidden, num_layers=LAYERS)
    return SentenceModel(
        spec,
        graph=GraphConfig(tau=TAU),
        pooler=pooler,
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )


def ours(shape: Shape, batches: list[TokenBatch], backend: str, edges: int) -> Contender:
    graph = GraphConfig(tau=TAU, backend=backend)
    model = SentenceModel(
        ModelSpec(shape.dim, (0,), False, "encoder", _TASK),
        graph=graph,
        pooler=PoolerConfig(hidden_dim=shape.hidden, num_layers=LAYERS),
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )
    optimizer = build_optimizer(
        OptimizerConfig(lr=LR), build_schedule(OptimizerConfig(lr=LR), 1, 1 << 20)
    )
    graphdef, params, stats = split_model(model)
    budgets = {(shape.batch, shape.length): power_of_two(edges)} if backend == "sparse" else {}
    steps = Steps(graphdef, _TASK, optimizer, budgets, 1 << 20)
    # The training step takes its state's buffers: the forward pass keeps the first weights.
    held = [init_state(jax.tree.map(np.array, params), stats, optimizer, 0)]
    fixed = init_state(params, stats, optimizer, 0)

    def step(index: int) -> jax.Array:
        held[0], logs = steps.train(held[0], batches[index % len(batches)])
        return logs["loss"]

    return Contender(
        step,
        lambda index: np.asarray(steps.evaluate(fixed, batches[index % len(batches)])["outputs"]),
        lambda: jax.block_until_ready(held[0]["params"]),
    )


def theirs(shape: Shape, batches: list[TokenBatch], name: str, model: SentenceModel) -> Contender:
    def build() -> Head:
        sizes = (shape.dim, shape.hidden, LAYERS, model.pooler.readout.bias[...].shape[0], TAU)
        head = (
            PygHead(*sizes, cosine=name.removeprefix("pyg-"))
            if name.startswith("pyg")
            else DenseHead(*sizes)
        )
        weights = {
            key: torch.tensor(value)
            for key, value in to_official(model.pooler).items()
            if "edge" not in key
        }
        weights["classifier.weight"] = torch.tensor(np.asarray(model.head.linear.kernel[...]).T)  # type: ignore[union-attr]
        weights["classifier.bias"] = torch.tensor(np.asarray(model.head.linear.bias[...]))  # type: ignore[union-attr]
        head.load_state_dict(weights)
        return head

    head, fixed = build(), build()
    optimizer = torch.optim.Adam(head.parameters(), lr=LR, fused=True)
    run, infer = (
        (torch.compile(of) for of in (head, fixed)) if name == "torch-compiled" else (head, fixed)
    )
    given = [
        (
            torch.tensor(np.asarray(b.hidden)),
            torch.tensor(np.asarray(b.mask)),
            torch.tensor(np.asarray(b.labels)).long(),
        )
        for b in batches
    ]

    def step(index: int) -> torch.Tensor:
        hidden, mask, labels = given[index % len(given)]
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(run(hidden, mask), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def forward(index: int) -> np.ndarray:
        hidden, mask, _ = given[index % len(given)]
        with torch.no_grad():
            return infer(hidden, mask).numpy()

    return Contender(step, forward)


NAMES = (
    "pyg-broadcast",
    "pyg-matmul",
    "torch-dense",
    "torch-compiled",
    "ours-sparse",
    "ours-dense",
    "ours-blockwise",
)


def make_batches(shape: Shape) -> list[TokenBatch]:
    return [
        synthetic_batch(
            dim=shape.dim,
            length=shape.length,
            batch_size=shape.batch,
            tokens_per_text=shape.tokens,
            seed=seed,
        )
        for seed in range(BATCHES)
    ]


class Process:
    """A contender in a process of its own."""

    def __init__(self, shape: Shape, name: str, edges: int, kept: bool):
        self.name, context = name, multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(other, shape, name, edges, kept), daemon=True
        )
        self.process.start()
        other.close()  # or its end would never be noticed

    def ask(self, kind: str, index: int, calls: int = 0) -> Any:
        """The outcome of `kind` ("step" or "forward") on batch `index`; with `calls` the seconds
        that so many take, from `index` on.
        """
        try:
            self.pipe.send((kind, index, calls))
            return self.pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            self.process.join()
            raise SystemExit(
                f"{self.name} ended with exit code {self.process.exitcode} (-9: likely no memory"
                " was left)"
            ) from error

    def end(self) -> None:
        self.pipe.close()
        self.process.join()


def _serve(pipe: Any, shape: Shape, name: str, edges: int, kept: bool) -> None:
    if kept:
        keep_memory()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    batches = make_batches(shape)
    contender = (
        ours(shape, batches, name.removeprefix("ours-"), edges)
        if name.startswith("ours")
        else theirs(shape, batches, name, build_model(shape))
    )
    while True:
        try:
            kind, index, calls = pipe.recv()
        except EOFError:
            return
        call = contender.step if kind == "step" else contender.forward
        if not calls:
            pipe.send(np.asarray(call(index)))
            continue
        started = time.perf_counter()
        for number in range(calls):
            call(index + number)
        contender.wait()
        pipe.send(time.perf_counter() - started)


def compare(shape: Shape, repeats: int, seconds: float, memory: str) -> dict[str, Any]:
    """Times of all contenders at one shape."""
    batches, model = make_batches(shape), build_model(shape)
    count = edge_counter(model.stem)
    linked = [int(np.sum(count(batch.hidden, batch.mask))) for batch in batches]
    edges, pairs = (
        max(linked),
        sum(
            int(np.square(np.asarray(batch.mask).sum(1, dtype=np.int64)).sum()) for batch in batches
        ),
    )
    tokens = int(np.mean([np.asarray(batch.mask).sum() for batch in batches]))
    result: dict[str, Any] = {
        **dataclasses.asdict(shape),
        "batch": shape.batch,
        "real_tokens": tokens,
        "density": sum(linked) / pairs,
        "memory": memory,
        "contenders": {},
    }
    contenders: dict[str, Process] = {}
    for name in NAMES:
        needed = needed_gib(name, shape, edges)
        if needed > MOST_GIB:
            result["contenders"][name] = f"does not fit (needs {needed:.0f} GB)"
            continue
        contenders[name] = Process(
            shape, name, edges, kept=memory == "kept" or name.startswith("ours")
        )
    expected = contenders["ours-blockwise"].ask("forward", 0)
    differences = {
        name: float(np.abs(of.ask("forward", 0) - expected).max() / np.abs(expected).max())
        for name, of in contenders.items()
    }
    # An edge whose cosine is tau to the last bit may fall on either side.
    assert max(differences.values()) < 2e-3, differences
    losses = {name: float(of.ask("step", 0)) for name, of in contenders.items()}
    assert np.ptp(list(losses.values())) < 1e-3, losses
    work = {
        kind: [
            work_of(
                GraphConfig(tau=TAU),
                PoolerConfig(hidden_dim=shape.hidden, num_layers=LAYERS),
                dim=shape.dim,
                lengths=np.asarray(batch.mask).sum(1),
                states_dtype="float32",
                parameters=count_parameters(model),
                train=kind == "step",
            )
            for batch in batches
        ]
        for kind in ("step", "forward")
    }
    # By round: what takes long is measured in every third one, and ratios are taken within rounds.
    times: dict[str, dict[str, dict[int, float]]] = {
        kind: {name: {} for name in contenders} for kind in ("step", "forward")
    }
    floors: dict[str, dict[int, float]] = {"step": {}, "forward": {}}
    slow: set[tuple[str, str]] = set()
    # The loss after one update is that of equal gradients and equal Adam steps.
    losses = {name: float(of.ask("step", 1)) for name, of in contenders.items()}
    assert np.ptp(list(losses.values())) < 2e-3, losses
    for of in contenders.values():
        of.ask("forward", 1)
    for kind in ("step", "forward"):
        begin = time.perf_counter()
        for index in range(repeats):
            if index >= 3 and time.perf_counter() - begin > seconds:
                break
            measure_ceilings.cache_clear()
            ceilings = measure_ceilings(("float32", FULL), 2)
            floors[kind][index] = float(np.mean([of.seconds(ceilings) for of in work[kind]]))
            # Another one begins every round, so that nobody always comes after the same neighbour.
            order = list(contenders)
            first = index % len(order)
            for name in order[first:] + order[:first]:
                of = contenders[name]
                if (kind, name) in slow and index % 3:
                    continue  # what takes long anyway is measured in every third round
                calls = 1 if tokens > 2000 else 5
                if (kind, name) not in slow:
                    of.ask(
                        kind,
                        index,
                        1,
                        # steps follow one another in training; the first after somebody else's pays
                        # for their caches
                    )
                spent = of.ask(kind, index * calls, calls) / calls
                times[kind][name][index] = spent
                if spent > seconds / 10:
                    slow.add((kind, name))
    for name, of in contenders.items():
        of.end()
        result["contenders"][name] = {
            **{
                f"{kind}_ms": 1000 * statistics.median(times[kind][name].values()) for kind in times
            },
            **{
                f"{kind}_quartiles_ms": [
                    1000 * float(q)
                    for q in np.quantile(list(times[kind][name].values()), (0.25, 0.75))
                ]
                for kind in times
            },
            "largest_difference": differences[name],
        }
    for kind, by_name in times.items():
        name = min(
            (name for name in contenders if name.startswith("ours")),
            key=lambda name: statistics.median(by_name[name].values()),
        )
        result[kind] = {
            "ours": name,
            "times_faster_than": {
                other: median_ratio(spent, by_name[name]) for other, spent in by_name.items()
            },
            "floor_ms": 1000 * statistics.median(floors[kind].values()),
            "over_floor": median_ratio(by_name[name], floors[kind]),
        }
    return result


def median_ratio(above: dict[int, float], below: dict[int, float]) -> float:
    """Over the rounds that both were measured in; the first round is one of them."""
    return statistics.median(above[index] / below[index] for index in above.keys() & below.keys())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=[shape.name for shape in SHAPES],
        choices=[shape.name for shape in SHAPES],
        metavar="DIMxLENGTH",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=9,
        help="rounds per shape, at least 3 even if they take longer than --seconds",
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="of a shape's rounds, training and forward each"
    )
    parser.add_argument(
        "--memory",
        choices=("own", "kept"),
        default="own",
        help="malloc as each contender's own users have it, or as `train` sets it for all",
    )
    parser.add_argument("--name", default="head", help="of the results file")
    arguments = parser.parse_args()
    keep_memory()
    path = RESULTS / f"{arguments.name}.json"
    # Every shape is a comparison by itself: those that are not measured now stay.
    known = {shape.name for shape in SHAPES} - set(arguments.shapes)
    results = [
        of
        for of in (json.loads(path.read_text())["shapes"] if path.exists() else [])
        if f"{of['dim']}x{of['length']}" in known
    ]
    for shape in SHAPES:
        if shape.name not in arguments.shapes:
            continue
        results.append(compare(shape, arguments.repeats, arguments.seconds, arguments.memory))
        jax.clear_caches()
        print_shape(results[-1])
        write_result(
            arguments.name, {"tau": TAU, "layers": LAYERS, "dtype": "float32", "shapes": results}
        )


def print_shape(result: dict[str, Any]) -> None:
    print(
        f"\ndim {result['dim']}, hidden {result['hidden']}, length {result['length']}, batch"
        f" {result['batch']}, density {result['density']:.2f}"
    )
    for name, of in result["contenders"].items():
        if isinstance(of, str):
            print(f"  {name:16} {of}")
        else:
            step, forward = (
                result["step"]["times_faster_than"][name],
                result["forward"]["times_faster_than"][name],
            )
            print(
                f"  {name:16} step {of['step_ms']:9.1f} ms ({step:5.2f}x)   forward"
                f" {of['forward_ms']:9.1f} ms ({forward:5.2f}x)",
                flush=True,
            )
    print(
        f"  time / floor: step {result['step']['over_floor']:.2f}, forward"
        f" {result['forward']['over_floor']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""The contenders of `head.py`, each in a process of its own."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

from glot_jax.pooling import Glot

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import torch
from benchmark import Mismatch
from flax import nnx
from torch_heads import DenseHead, Head, PygHead

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, PoolerConfig
from glot_jax.dispatch.memory import keep_memory
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.official.torch_checkpoint import to_official
from glot_jax.profiling.shapes import synthetic_batch
from glot_jax.texts.tasks import TaskSpec
from glot_jax.training.edge_budgets import power_of_two
from glot_jax.training.optimizer import optimizer_maker
from glot_jax.training.step_functions import Numbers
from glot_jax.training.steps import Steps, init_state

TAU = 0.6
LAYERS = 2
LR = 2e-4
BATCHES = 2
MANY_STEPS = 1 << 20
"""Steps of the schedule, which is constant."""
TASK = TaskSpec(
    "bench", ("text",), ("text",), "label", "classes", ("no", "yes"), metrics=("accuracy",)
)
NAMES = (
    "pyg-broadcast",
    "pyg-matmul",
    "torch-dense",
    "torch-compiled",
    "ours-sparse",
    "ours-dense",
    "ours-blockwise",
)

Kind = Literal["step", "forward"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a head and of its batches."""

    dim: int
    hidden: int
    length: int
    tokens: float | None = None
    """Real tokens of a text on average; None: no padding."""

    @property
    def batch(self) -> int:
        """Texts of a batch."""
        if self.length <= 512:
            return 32
        return max(1, 16_384 // self.length)

    @property
    def name(self) -> str:
        """Width and length, as the command line names them."""
        return f"{self.dim}x{self.length}"


@dataclasses.dataclass
class Contender:
    """One implementation with its weights and its batches."""

    step: Callable[[int], Any]
    """Train on batch i; its loss, which JAX may still be computing."""
    forward: Callable[[int], np.ndarray]
    """Logits of batch i."""
    wait: Callable[[], object] = lambda: None
    """Return when every step begun is done."""


def needed_gib(name: str, shape: Shape, edges: int) -> float:
    """The largest arrays of a training step, by the contender's own arithmetic."""
    pairs = shape.batch * shape.length**2
    states = shape.batch * shape.length * shape.dim * 4
    # Source, values and weighted values of every edge, per layer.
    by_edge = LAYERS * 4 * (2 * shape.hidden + 6)
    # Two products of a sentence's pairs at a time, as wide as the states.
    broadcast = 2 * 4 * shape.length**2 * shape.dim
    size = {
        "pyg-broadcast": broadcast + edges * (16 + by_edge),
        "pyg-matmul": edges * (16 + by_edge),
        # Logits, leaky logits and weights are kept per layer; as many are made on the way back.
        "torch-dense": pairs * 4 * (1 + 3 * LAYERS + 3),
        "torch-compiled": pairs * 4 * (1 + 2 * LAYERS + 2),
        "ours-dense": pairs * 4 * (1 + 2 * LAYERS + 2),
        "ours-sparse": power_of_two(edges) * (8 + by_edge),
        "ours-blockwise": pairs / 8 + 3 * 2**25 * 4,
    }[name]
    return (size + 4 * states) / 2**30


def make_batches(shape: Shape) -> list[TokenBatch]:
    """The batches that every contender sees, in turn."""
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


def build_model(shape: Shape, backend: str = "auto") -> SentenceModel:
    """The weights that every contender begins with."""
    return SentenceModel(
        ModelSpec(shape.dim, (0,), False, "encoder", TASK),
        graph=GraphConfig(tau=TAU, backend=backend),
        pooler=PoolerConfig(hidden_dim=shape.hidden, num_layers=LAYERS),
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )


def ours(shape: Shape, backend: str, edges: int) -> Contender:
    """The trainer's own compiled steps."""
    # On the device, as the training rows are.
    batches = jax.device_put(make_batches(shape))
    settings = OptimizerConfig(lr=LR)
    make_optimizer = optimizer_maker(settings, 1, MANY_STEPS)
    model = build_model(shape, backend)
    graphdef, params, stats = split_model(model)

    def numbers() -> Numbers:
        return Numbers.from_config(settings, model.stem.config, PoolerConfig())

    budgets = {}
    if backend == "sparse":
        budgets[shape.batch, shape.length] = power_of_two(edges)
    steps = Steps(graphdef, make_optimizer, budgets, MANY_STEPS)
    # The training step takes its state's buffers: the forward pass keeps the first weights.
    fixed = init_state(params, stats, make_optimizer, numbers(), 0)
    state = init_state(jax.tree.map(np.array, params), stats, make_optimizer, numbers(), 0)

    def step(index: int) -> jax.Array:
        nonlocal state
        state, logs = steps.train(state, batches[index % BATCHES])
        return logs["loss"]

    def forward(index: int) -> np.ndarray:
        return np.asarray(steps.evaluate(fixed, batches[index % BATCHES])["outputs"])

    return Contender(step, forward, lambda: jax.block_until_ready(state["params"]))


def torch_head(shape: Shape, name: str) -> Head:
    """A head of PyTorch with our weights."""
    model = build_model(shape)
    glot = model.pooler
    assert isinstance(glot, Glot)
    scorer = glot.readout.bias[...].shape[0]
    sizes = (shape.dim, shape.hidden, LAYERS, scorer, TAU)
    head: Head
    if name.startswith("pyg"):
        head = PygHead(*sizes, cosine=name.removeprefix("pyg-"))
    else:
        head = DenseHead(*sizes)
    arrays = {key: value for key, value in to_official(glot).items() if "edge" not in key}
    linear = model.head.linear  # type: ignore[union-attr]
    arrays["classifier.weight"] = np.asarray(linear.kernel[...]).T
    arrays["classifier.bias"] = np.asarray(linear.bias[...])
    head.load_state_dict({key: torch.tensor(value) for key, value in arrays.items()})
    return head.to(torch_device())


def torch_device() -> str:
    """Where PyTorch computes: on the kind of device that JAX does."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def theirs(shape: Shape, name: str) -> Contender:
    """The same head in PyTorch."""
    head = torch_head(shape, name)
    fixed = torch_head(shape, name)
    optimizer = torch.optim.Adam(head.parameters(), lr=LR, fused=True)
    call: Callable[..., torch.Tensor] = head
    infer: Callable[..., torch.Tensor] = fixed
    if name == "torch-compiled":
        call = torch.compile(head)
        infer = torch.compile(fixed)
    device = torch_device()
    if device == "cuda":
        # As XLA does by default: products of float32 in TF32.
        torch.set_float32_matmul_precision("high")
    batches = []
    for batch in make_batches(shape):
        hidden = torch.tensor(np.asarray(batch.hidden), device=device)
        mask = torch.tensor(np.asarray(batch.mask), device=device)
        labels = torch.tensor(np.asarray(batch.labels), device=device).long()
        batches.append((hidden, mask, labels))

    def step(index: int) -> torch.Tensor:
        hidden, mask, labels = batches[index % BATCHES]
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(call(hidden, mask), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def forward(index: int) -> np.ndarray:
        hidden, mask, _ = batches[index % BATCHES]
        with torch.no_grad():
            return infer(hidden, mask).numpy(force=True)

    if device == "cuda":
        return Contender(step, forward, torch.cuda.synchronize)
    return Contender(step, forward)


class Process:
    """A contender in a process of its own."""

    def __init__(self, shape: Shape, name: str, edges: int, kept: bool):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.pipe, other = context.Pipe()
        arguments = (other, shape, name, edges, kept)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()  # or its end would never be noticed

    def run(self, kind: Kind, index: int) -> np.ndarray:
        """Loss ("step") or logits ("forward") of batch `index`."""
        answer = self._send(kind, index, 0)
        assert isinstance(answer, np.ndarray)
        return answer

    def time(self, kind: Kind, index: int, calls: int) -> float:
        """Seconds that `calls` calls take, from batch `index` on."""
        answer = self._send(kind, index, calls)
        assert isinstance(answer, float)
        return answer

    def _send(self, kind: Kind, index: int, calls: int) -> object:
        try:
            self.pipe.send((kind, index, calls))
            return self.pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            self.process.join()
            code = self.process.exitcode
            raise Mismatch(
                f"{self.name} must answer; got exit code {code} (-9: likely no memory was left)."
            ) from error

    def end(self) -> None:
        """Let the process end, and wait for it."""
        self.pipe.close()
        self.process.join()


def serve(pipe: Connection, shape: Shape, name: str, edges: int, kept: bool) -> None:
    """Build a contender and answer until the pipe is closed."""
    if kept:
        keep_memory()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if name.startswith("ours"):
        contender = ours(shape, name.removeprefix("ours-"), edges)
    else:
        contender = theirs(shape, name)
    while True:
        try:
            kind, index, calls = pipe.recv()
        except EOFError:
            return
        call = contender.forward
        if kind == "step":
            call = contender.step
        if not calls:
            result = call(index)
            if isinstance(result, torch.Tensor):
                result = result.numpy(force=True)
            pipe.send(np.asarray(result))
            continue
        started = time.perf_counter()
        for number in range(calls):
            call(index + number)
        contender.wait()
        pipe.send(time.perf_counter() - started)

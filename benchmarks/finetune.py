"""What the paper's Tables 5 and 9 compare, on MiniLM.

A step of the head alone, of LoRA (r = 64), and of full fine-tuning.

    python benchmarks/finetune.py [--length 128] [--repeats 5]

A batch of 32 texts of `length` tokens. head: ours, on states that were computed once (a step does
not run the model; the one forward pass that extraction pays per text is listed beside it). lora,
full: the model with a mean pooler and a linear classifier in PyTorch, forward, backward and Adam,
LoRA by peft on the attention's linear layers. Every kind runs in a process of its own, so that peak
memory is its own: resident set at its highest, less what it was when the libraries were loaded and
the model was not.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmark import Benchmark, peak_bytes, run

DIM = 384
BATCH = 32
RANK = 64
Kind = Literal["head", "forward", "lora", "full"]
KINDS: tuple[Kind, ...] = ("head", "forward", "lora", "full")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune(Benchmark):
    """Time and memory of a training step of the head, of LoRA and of full fine-tuning."""

    length: int = 128
    repeats: int = 5
    rounds: int = 3
    measure: Kind | None = None
    """This kind alone, in this process; prints JSON."""

    def smaller(self) -> Finetune:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, length=16, repeats=1, rounds=1)


def timed(step: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of `repeats` calls, after one that is not counted."""
    step()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure_head(bench: Finetune) -> dict[str, Any]:
    """A training step of glot on stored states."""
    import jax
    from flax import nnx

    from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, PoolerConfig
    from glot_jax.dispatch.memory import keep_memory
    from glot_jax.model import ModelSpec, SentenceModel, split_model
    from glot_jax.objectives import TaskSpec
    from glot_jax.pooling import count_parameters
    from glot_jax.profiling.shapes import synthetic_batch
    from glot_jax.training.optimizer import optimizer_maker
    from glot_jax.training.step_functions import Numbers
    from glot_jax.training.steps import Steps, init_state

    task = TaskSpec(
        "bench", ("text",), ("text",), "label", "classes", ("no", "yes"), metrics=("accuracy",)
    )
    keep_memory()  # as `train` does; the backbone's steps have memory as PyTorch's users do
    jax.numpy.zeros(1).block_until_ready()
    before = peak_bytes()
    model = SentenceModel(
        ModelSpec(DIM, (0,), False, "encoder", task),
        graph=GraphConfig(),
        pooler=PoolerConfig(hidden_dim=128),
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )
    make_optimizer = optimizer_maker(OptimizerConfig(), 1, 1000)
    numbers = Numbers.from_config(OptimizerConfig(), GraphConfig(), PoolerConfig())
    graphdef, params, stats = split_model(model)
    steps = Steps(graphdef, make_optimizer, {}, 1000)
    state = init_state(params, stats, make_optimizer, numbers, 0)
    batches = [
        synthetic_batch(dim=DIM, length=bench.length, batch_size=BATCH, seed=seed)
        for seed in range(2)
    ]
    number = 0

    def step() -> None:
        nonlocal state, number
        number += 1
        state, logs = steps.train(state, batches[number % 2])
        jax.block_until_ready((state["params"], logs))

    seconds = timed(step, bench.repeats)
    return {
        "seconds": seconds,
        "peak_bytes": peak_bytes() - before,
        "trained": count_parameters(model),
    }


def measure_backbone(bench: Finetune, kind: Kind) -> dict[str, Any]:
    """A step of the model itself in PyTorch: forward alone, LoRA or everything trained."""
    import gc

    import torch
    import transformers

    # Loaded lazily otherwise, and then counted.
    import transformers.models.bert.modeling_bert
    from peft import LoraConfig, get_peft_model

    from glot_jax.backbone_files.backbone_source import find_source

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    gc.collect()
    before = peak_bytes()
    location = find_source("minilm", None).location
    model = transformers.AutoModel.from_pretrained(location, add_pooling_layer=False)
    model.requires_grad_(kind == "full")
    if kind == "lora":
        layers = ["query", "key", "value", "attention.output.dense"]
        model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers))
    classifier = torch.nn.Linear(DIM, 2)
    model.train(kind != "forward")
    parameters = [*model.parameters(), *classifier.parameters()]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=2e-5, fused=True)
    ids = torch.randint(1000, 20_000, (2, BATCH, bench.length))
    labels = torch.randint(0, 2, (BATCH,))
    mask = torch.ones(BATCH, bench.length, dtype=torch.long)
    number = 0

    def step() -> None:
        nonlocal number
        number += 1
        with torch.set_grad_enabled(kind != "forward"):
            states = model(input_ids=ids[number % 2], attention_mask=mask).last_hidden_state
        if kind == "forward":
            return
        loss = torch.nn.functional.cross_entropy(classifier(states.mean(1)), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    seconds = timed(step, bench.repeats)
    count = sum(parameter.numel() for parameter in trained)
    if kind == "forward":
        count = 0
    return {"seconds": seconds, "peak_bytes": peak_bytes() - before, "trained": count}


def measure_apart(bench: Finetune, kind: Kind) -> dict[str, Any]:
    """The same in a process of its own, whose peak memory is its own."""
    settings = ["--length", str(bench.length), "--repeats", str(bench.repeats)]
    command = [sys.executable, __file__, "--measure", kind, *settings]
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(process.stdout.splitlines()[-1])


def main(bench: Finetune) -> None:
    """Measure every kind in processes of their own, in turn, and write `finetune.json`."""
    if bench.measure == "head":
        print(json.dumps(measure_head(bench)))
        return
    if bench.measure is not None:
        print(json.dumps(measure_backbone(bench, bench.measure)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(bench.rounds):
        for kind in KINDS:
            rounds[kind].append(measure_apart(bench, kind))
    head = [statistics.median(measured["seconds"]) for measured in rounds["head"]]
    results = {}
    for kind, measurements in rounds.items():
        steps = [statistics.median(measured["seconds"]) for measured in measurements]
        ratios = [step / ours for step, ours in zip(steps, head, strict=True)]
        memory = statistics.median(measured["peak_bytes"] for measured in measurements)
        results[kind] = {
            "step_ms": 1000 * statistics.median(steps),
            "times_the_head": statistics.median(ratios),
            "peak_mb": memory / 1e6,
            "trained": measurements[0]["trained"],
        }
        print(kind, results[kind], flush=True)
    settings = {"backbone": "minilm", "batch": BATCH, "length": bench.length, "lora_rank": RANK}
    bench.write("finetune", {**settings, "kinds": results})


if __name__ == "__main__":
    run(Finetune, main)

"""What the paper's Tables 5 and 9 compare: a step of the head alone, of LoRA (r = 64), and of full
fine-tuning, on MiniLM.

    python benchmarks/finetune.py [--length 128] [--repeats 5]

A batch of 32 texts of `length` tokens. head: ours, on states that were computed once (a step does
not run the model; the one forward pass that extraction pays per text is listed beside it). lora,
full: the model with a mean pooler and a linear classifier in PyTorch, forward, backward and Adam,
LoRA by peft on the attention's linear layers. Every kind runs in a process of its own, so that peak
memory is its own: resident set at its highest, less what it was when the libraries were loaded and
the model was not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

BATCH, RANK = 32, 64
KINDS = ("head", "forward", "lora", "full")


def peak() -> int:
    """Bytes of the resident set at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(step: Callable[[], Any], repeats: int) -> list[float]:
    step()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return seconds


def measure_head(length: int, repeats: int) -> dict[str, Any]:
    import jax
    from flax import nnx

    from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, PoolerConfig
    from glot_jax.model import ModelSpec, SentenceModel
    from glot_jax.objectives import TaskSpec
    from glot_jax.pooling import count_parameters
    from glot_jax.profiling.head import synthetic_batch
    from glot_jax.training.memory import keep_memory
    from glot_jax.training.optimizer import build_optimizer, build_schedule
    from glot_jax.training.steps import Steps, init_state, split_model

    task = TaskSpec(
        "bench", ("text",), ("text",), "label", "classes", ("no", "yes"), metrics=("accuracy",)
    )
    keep_memory()  # as `train` does; the backbone's steps have memory as PyTorch's users do
    jax.numpy.zeros(1).block_until_ready()
    before = peak()
    model = SentenceModel(
        ModelSpec(384, (0,), False, "encoder", task),
        graph=GraphConfig(),
        pooler=PoolerConfig(hidden_dim=128),
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )
    optimizer = build_optimizer(OptimizerConfig(), build_schedule(OptimizerConfig(), 1, 1000))
    graphdef, params, stats = split_model(model)
    steps, held = (
        Steps(graphdef, task, optimizer, {}, 1000),
        [init_state(params, stats, optimizer, 0)],
    )
    batches = [
        synthetic_batch(dim=384, length=length, batch_size=BATCH, seed=seed) for seed in range(2)
    ]
    count = [0]

    def step() -> None:
        count[0] += 1
        held[0], logs = steps.train(held[0], batches[count[0] % 2])
        jax.block_until_ready((held[0]["params"], logs))

    return {
        "seconds": timed(step, repeats),
        "peak_bytes": peak() - before,
        "trained": count_parameters(model),
    }


def measure_backbone(kind: str, length: int, repeats: int) -> dict[str, Any]:
    import gc

    import torch
    import transformers

    # Loaded lazily otherwise, and then counted.
    import transformers.models.bert.modeling_bert
    from peft import LoraConfig, get_peft_model

    from glot_jax.extraction.backbone_source import find_source

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    gc.collect()
    before = peak()
    model = transformers.AutoModel.from_pretrained(
        find_source("minilm", None).location, add_pooling_layer=False
    ).requires_grad_(False)
    if kind == "lora":
        model = get_peft_model(
            model,
            LoraConfig(
                r=RANK,
                lora_alpha=RANK,
                target_modules=["query", "key", "value", "attention.output.dense"],
            ),
        )
    classifier = torch.nn.Linear(384, 2)
    if kind == "full":
        model.requires_grad_(True)
    model.train(kind != "forward")
    trained = [p for p in (*model.parameters(), *classifier.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=2e-5, fused=True)
    ids, labels = torch.randint(1000, 20_000, (2, BATCH, length)), torch.randint(0, 2, (BATCH,))
    mask = torch.ones(BATCH, length, dtype=torch.long)
    count = [0]

    def step() -> None:
        count[0] += 1
        with torch.set_grad_enabled(kind != "forward"):
            states = model(input_ids=ids[count[0] % 2], attention_mask=mask).last_hidden_state
            if kind == "forward":
                return
        loss = torch.nn.functional.cross_entropy(classifier(states.mean(1)), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    seconds = timed(step, repeats)
    return {
        "seconds": seconds,
        "peak_bytes": peak() - before,
        "trained": 0 if kind == "forward" else sum(p.numel() for p in trained),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--measure", choices=KINDS, help="this kind alone, in this process; prints JSON"
    )
    arguments = parser.parse_args()
    if arguments.measure:
        measured = (
            measure_head(arguments.length, arguments.repeats)
            if arguments.measure == "head"
            else measure_backbone(arguments.measure, arguments.length, arguments.repeats)
        )
        print(json.dumps(measured))
        return
    from machine import write_result

    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(arguments.rounds):
        for kind in KINDS:
            command = [
                sys.executable,
                __file__,
                "--measure",
                kind,
                "--length",
                str(arguments.length),
                "--repeats",
                str(arguments.repeats),
            ]
            rounds[kind].append(
                json.loads(
                    subprocess.run(
                        command, check=True, capture_output=True, text=True
                    ).stdout.splitlines()[-1]
                )
            )
    head = [statistics.median(of["seconds"]) for of in rounds["head"]]
    results = {}
    for kind, measured in rounds.items():
        steps = [statistics.median(of["seconds"]) for of in measured]
        results[kind] = {
            "step_ms": 1000 * statistics.median(steps),
            "times_the_head": statistics.median(a / b for a, b in zip(steps, head, strict=True)),
            "peak_mb": statistics.median(of["peak_bytes"] for of in measured) / 1e6,
            "trained": measured[0]["trained"],
        }
        print(kind, results[kind], flush=True)
    write_result(
        "finetune",
        {
            "backbone": "minilm",
            "batch": BATCH,
            "length": arguments.length,
            "lora_rank": RANK,
            "kinds": results,
        },
    )


if __name__ == "__main__":
    main()

"""Extraction against a bare forward loop over the same texts, and against padding every text to 128
tokens.

    python benchmarks/extraction.py --data DIR/cola --work build/extraction

All three run the same model in one process, in turn, after a warm-up; the ratios are medians over
the repeats. The bare loop tokenises, sorts by length and runs batches of the same token budget, and
writes nothing. Loading the model is left out of all three. Writes
benchmarks/results/extraction.json.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from machine import write_result
from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.extraction import Backbone, dump
from glot_jax.store import HiddenStore
from glot_jax.texts import open_task


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Tokens per second of extraction and of two plain loops."""

    data: Path
    """Folder of the task, with train.jsonl and validation.jsonl."""
    work: Path = Path("build/extraction")
    task: str = "cola"
    backbone: str = "minilm"
    repeats: int = 5
    padded_share: int = 20
    """The padded loop runs one in this many texts and is scaled up."""


def bare_loop(backbone: Backbone, texts: list[str], tokens_per_batch: int) -> None:
    """Tokenise, sort by length, forward in batches under the token budget, drop the result."""
    ids = sorted(backbone.tokenize(texts).ids, key=len)
    batch: list[list[int]] = []
    for one in ids:
        if batch and len(one) * (len(batch) + 1) > tokens_per_batch:
            backbone.states(batch, "float16")
            batch = []
        batch.append(one)
    backbone.states(batch, "float16")


def padded_loop(
    backbone: Backbone, texts: list[str], length: int = 128, batch_size: int = 32
) -> None:
    """What fixed padding costs: every text is `length` tokens long."""
    for first in range(0, len(texts), batch_size):
        encoded = backbone.tokenizer(
            texts[first : first + batch_size],
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            backbone._model(
                input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
            )


def seconds(action: Callable[[], object]) -> dict[str, float]:
    """Wall and processor seconds; on a shared machine the second is the steadier one."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def ratio(
    times: dict[str, list[dict[str, float]]], other: str, clock: str, loading: dict[str, float]
) -> float:
    """How many times as fast as `other` the extraction is, its model loading apart: median over the
    repeats.
    """
    pairs = zip(times[other], times["extract"], strict=True)
    return statistics.median(
        plain[clock] / (extract[clock] - loading[clock]) for plain, extract in pairs
    )


def main(bench: Benchmark) -> None:
    config = ExtractConfig(
        backbone=bench.backbone, task=bench.task, data=bench.data, out=bench.work / "store"
    )
    backbone = Backbone(config)
    texts = [
        text
        for split in open_task(config).splits.values()
        for example in split
        for text in example.texts
    ]
    sample = texts[:: bench.padded_share]
    loads = [seconds(lambda: Backbone(config)) for _ in range(3)]
    loading = {clock: statistics.median(load[clock] for load in loads) for clock in ("wall", "cpu")}

    def extract() -> None:
        for path in (config.out, config.out.with_name("store.lock")):
            shutil.rmtree(path, ignore_errors=True)
        dump(config, console=Console(quiet=True))

    bare_loop(backbone, texts[:500], config.tokens_per_batch)
    times: dict[str, list[dict[str, float]]] = {"bare": [], "extract": [], "padded": []}
    actions = {
        "bare": lambda: bare_loop(backbone, texts, config.tokens_per_batch),
        "extract": extract,
    }
    for repeat in range(bench.repeats):
        # In turn first and second: a machine that slows down must not always slow the same one.
        for name in sorted(actions, reverse=bool(repeat % 2)):
            times[name].append(seconds(actions[name]))
        taken = seconds(lambda: padded_loop(backbone, sample))
        times["padded"].append(
            {clock: value * len(texts) / len(sample) for clock, value in taken.items()}
        )
    store = HiddenStore(config.out)
    tokens = sum(store[split].tokens for split in store)
    size = sum(path.stat().st_size for path in config.out.rglob("*") if path.is_file())
    result = {
        "texts": len(texts),
        "tokens": tokens,
        "seconds": times,
        "model_loading_seconds": loading,
        **{
            f"{clock}_speed_over_{other}": ratio(times, other, clock, loading)
            for other in ("bare", "padded")
            for clock in ("wall", "cpu")
        },
        "store_bytes": size,
        "store_bytes_over_states": size / (tokens * store.dim * 2),
    }
    for name, value in result.items():
        if isinstance(value, (int, float)):
            print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value:,}")
    print(f"wrote {write_result('extraction', result)}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))

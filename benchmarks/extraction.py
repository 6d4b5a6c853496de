r"""Extraction against a bare forward loop over the same texts.

And against padding every text to 128 tokens.

    python benchmarks/extraction.py --data DIR/cola --work build/extraction

All three run the same model in one process, in turn, after a warm-up; the ratios are medians over
the repeats. The bare loop tokenises, sorts by length and runs batches of the same token budget, and
writes nothing. Loading the model is left out of all three. Writes
benchmarks/results/extraction.json. A decoder, and what it saves that no block runs above the layer
which is stored:

    python benchmarks/extraction.py --data DIR/stsb --task stsb --backbone smollm2 --shallow 20 \
        --train-rows 1500 --repeats 3 --name extraction-smollm2
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark import Benchmark, run
from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.extraction import Backbone, dump
from glot_jax.store import HiddenStore
from glot_jax.texts import open_task

Seconds = dict[str, float]
"""{"wall": ..., "cpu": ...}; on a shared machine the second is the steadier one."""
CLOCKS = ("wall", "cpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extraction(Benchmark):
    """Tokens per second of extraction and of two plain loops."""

    data: Path
    """Folder of the task, with train.jsonl and validation.jsonl."""
    work: Path = Path("build/extraction")
    task: str = "cola"
    backbone: str = "minilm"
    repeats: int = 5
    padded_share: int = 20
    """The padded loop runs one in this many texts and is scaled up."""
    shallow: int | None = None
    """A layer: also time an extraction of it alone against one of the last layer."""
    train_rows: int | None = None
    """Seeded sample of the training rows. Default: all of them."""
    name: str = "extraction"
    """Of the file of results."""

    def smaller(self) -> Extraction:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, repeats=1, padded_share=5, shallow=3)


def bare_loop(backbone: Backbone, texts: list[str], tokens_per_batch: int) -> None:
    """Tokenise, sort by length, forward in batches under the token budget, drop the result."""
    batch: list[list[int]] = []
    for ids in sorted(backbone.tokenize(texts).ids, key=len):
        if batch and len(ids) * (len(batch) + 1) > tokens_per_batch:
            backbone.states(batch, "float16")
            batch = []
        batch.append(ids)
    backbone.states(batch, "float16")


def padded_loop(backbone: Backbone, texts: list[str]) -> None:
    """What fixed padding costs: every text is 128 tokens long, 32 of them a batch."""
    for first in range(0, len(texts), 32):
        encoded = backbone.tokenizer(
            texts[first : first + 32],
            padding="max_length",
            truncation=True,
            max_length=128,
            return_tensors="pt",
        )
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            backbone.model(**inputs)


def seconds_of(action: Callable[[], object]) -> Seconds:
    """Wall time and processor time of one call."""
    wall = time.perf_counter()
    cpu = time.process_time()
    action()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def extract(config: ExtractConfig) -> None:
    """Write a store anew."""
    out = require_folder(config.out)
    for path in (out, out.with_name(f"{out.name}.lock")):
        shutil.rmtree(path, ignore_errors=True)
    dump(config, console=Console(quiet=True))


def speed_over(
    times: dict[str, list[Seconds]],
    other: str,
    loading: Seconds,
    others_loading: Seconds | None = None,
) -> Seconds:
    """How many times as fast as `other` the extraction is, model loading apart.

    The median over the repeats, for both clocks.
    """
    speeds = {}
    for clock in CLOCKS:
        ratios = []
        apart = 0.0 if others_loading is None else others_loading[clock]
        for plain, whole in zip(times[other], times["extract"], strict=True):
            ratios.append((plain[clock] - apart) / (whole[clock] - loading[clock]))
        speeds[clock] = statistics.median(ratios)
    return speeds


def read_texts(config: ExtractConfig) -> list[str]:
    """All texts of a task, split by split."""
    texts: list[str] = []
    for split in open_task(config).splits.values():
        for example in split:
            texts.extend(example.texts)
    return texts


def measure(bench: Extraction, config: ExtractConfig) -> dict[str, Any]:
    """Times of all three, and how many times as fast as the others extraction is."""
    backbone = Backbone(config)
    texts = read_texts(config)
    sample = texts[:: bench.padded_share]
    loads = [seconds_of(functools.partial(Backbone, config)) for _ in range(3)]
    loading = {clock: statistics.median(load[clock] for load in loads) for clock in CLOCKS}

    bare_loop(backbone, texts[:500], config.tokens_per_batch)
    times: dict[str, list[Seconds]] = {"bare": [], "extract": [], "padded": []}
    actions = {
        "bare": functools.partial(bare_loop, backbone, texts, config.tokens_per_batch),
        "extract": functools.partial(extract, config),
    }
    if bench.shallow is not None:
        out = config.out.with_name("shallow")
        shallow = dataclasses.replace(config, layers=(bench.shallow,), out=out)
        times["shallow"] = []
        actions["shallow"] = functools.partial(extract, shallow)
    for repeat in range(bench.repeats):
        # In turn first and second: a machine that slows down must not always slow the same one.
        for name in sorted(actions, reverse=bool(repeat % 2)):
            times[name].append(seconds_of(actions[name]))
        taken = seconds_of(functools.partial(padded_loop, backbone, sample))
        scale = len(texts) / len(sample)
        times["padded"].append({clock: value * scale for clock, value in taken.items()})
    result: dict[str, Any] = {
        "texts": len(texts),
        "seconds": times,
        "model_loading_seconds": loading,
    }
    if bench.shallow is not None:
        # Both are extractions, so that one's ratio turned over is the other's.
        for clock, speed in speed_over(times, "shallow", loading, loading).items():
            result[f"{clock}_speed_of_layer_{bench.shallow}"] = 1 / speed
    for other in ("bare", "padded"):
        for clock, speed in speed_over(times, other, loading).items():
            result[f"{clock}_speed_over_{other}"] = speed
    return result


def main(bench: Extraction) -> None:
    """Time the extraction beside its forward passes alone, and write `extraction.json`."""
    config = ExtractConfig(
        backbone=bench.backbone,
        task=bench.task,
        data=bench.data,
        out=bench.work / "store",
        max_train_rows=bench.train_rows,
    )
    result = measure(bench, config)
    store = HiddenStore(config.out)
    tokens = sum(store[split].tokens for split in store)
    size = sum(
        path.stat().st_size for path in require_folder(config.out).rglob("*") if path.is_file()
    )
    result["tokens"] = tokens
    result["store_bytes"] = size
    result["store_bytes_over_states"] = size / (tokens * store.dim * 2)
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name}: {value:,.4g}")
        elif isinstance(value, int):
            print(f"{name}: {value:,}")
    result["backbone"] = bench.backbone
    bench.write(bench.name, result)


if __name__ == "__main__":
    run(Extraction, main)

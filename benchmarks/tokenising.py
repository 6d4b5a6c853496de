r"""Tokenising and cutting: the ceiling of all workers together, since each of them cuts every text.

    # DIR/{cola,imdb}/train.jsonl
    python benchmarks/tokenising.py --data DIR

Two ways take turns over the same texts: the call of transformers, which hands every text from Rust
to Python in dictionaries, and `glot_jax.backbones.tokenizer.truncated_ids`, which takes nothing but
ids. Both in processes of their own with one thread and with all cores. What does not get faster
with threads is Python's: from both times follows the ceiling of a machine with many cores. Writes
benchmarks/results/tokenising.json.
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
from pathlib import Path
from typing import Any

from benchmark import Benchmark, Mismatch, json_rows, run

COLUMNS = {"cola": ("sentence", 128), "imdb": ("text", 512)}
"""Task -> its column, and the length that its texts are cut to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokenising(Benchmark):
    """Tokens a second of one process that cuts texts."""

    data: Path
    """Folder with one folder per task."""
    backbones: tuple[str, ...] = ("minilm", "smollm2")
    tasks: tuple[str, ...] = ("cola", "imdb")
    repeats: int = 7
    worker: str | None = None
    """BACKBONE/TASK: what the processes are given."""

    def smaller(self) -> Tokenising:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, backbones=("minilm",), tasks=("cola",), repeats=1)


def by_transformers(tokenizer: Any, texts: list[str], max_length: int) -> list[list[int]]:  # noqa: ANN401 - of transformers
    """Ids of every text by the tokenizer's own call, with what was cut off."""
    encoded = tokenizer(
        texts,
        padding=False,
        truncation=True,
        max_length=max_length,
        return_overflowing_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = []
    parts = zip(encoded["input_ids"], encoded["overflow_to_sample_mapping"], strict=True)
    for part, text in parts:
        if text == len(ids):
            ids.append(part)
    return ids


def work(bench: Tokenising, what: str) -> None:
    """Print the seconds of both ways, and how many tokens there are."""
    from glot_jax.backbone_files.backbone_source import find_source
    from glot_jax.backbones.tokenizer import load_tokenizer, truncated_ids

    backbone, _, task = what.partition("/")
    column, max_length = COLUMNS[task]
    texts = [row[column] for row in json_rows(bench.data / task / "train.jsonl")]
    tokenizer = load_tokenizer(find_source(backbone, None))
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "transformers": lambda: by_transformers(tokenizer, texts, max_length),
        "ours": lambda: truncated_ids(tokenizer, texts, max_length)[0],
    }
    # Once before the clock runs: the first call builds its caches.
    ids = ways["ours"]()
    if ways["transformers"]() != ids:
        raise Mismatch("Both ways must give the same ids.")
    tokens = sum(map(len, ids))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(bench.repeats):
        for way, tokenise in ways.items():
            began = time.perf_counter()
            tokenise()
            seconds[way].append(time.perf_counter() - began)
    print(json.dumps({"tokens": tokens, "seconds": seconds}))


def measured(bench: Tokenising, what: str, threads: int) -> dict[str, Any]:
    """Tokens a second of both ways in a process with so many threads."""
    command = [sys.executable, __file__, "--data", str(bench.data), "--worker", what]
    command += ["--repeats", str(bench.repeats)]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    values = json.loads(done.stdout.splitlines()[-1])
    return {
        way: values["tokens"] / statistics.median(seconds)
        for way, seconds in values["seconds"].items()
    }


def main(bench: Tokenising) -> None:
    """Measure every backbone and task, print and write."""
    if bench.worker is not None:
        work(bench, bench.worker)
        return
    cores = len(os.sched_getaffinity(0))
    rows = []
    for backbone in bench.backbones:
        for task in bench.tasks:
            what = f"{backbone}/{task}"
            one = measured(bench, what, 1)
            all_cores = measured(bench, what, cores)
            for way in one:
                # Amdahl's law: a time is serial + parallel / threads.
                serial = (cores / all_cores[way] - 1 / one[way]) / max(cores - 1, 1)
                ceiling = None if serial <= 0 else 1 / serial
                row = {
                    "backbone": backbone,
                    "task": task,
                    "way": way,
                    "one_thread": one[way],
                    "all_cores": all_cores[way],
                    "ceiling": ceiling,
                }
                rows.append(row)
                shown = "none seen" if ceiling is None else f"{ceiling:,.0f}"
                print(
                    f"{what:14s} {way:12s} {one[way]:9,.0f} tokens/s with one thread"
                    f" {all_cores[way]:9,.0f} with {cores}   ceiling {shown}",
                    flush=True,
                )
    bench.write("tokenising", {"cores": cores, "rows": rows})


if __name__ == "__main__":
    run(Tokenising, main)

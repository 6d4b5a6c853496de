"""What it costs that a store is durable and hashed.

    python benchmarks/writer.py --data DIR/cola --work build/writer

1. Bytes per second of writing shards (temporary folder, sha256, fsync, rename, record) against
   np.save + os.fsync of the same arrays; beside them the writer with its hash left out, and sha256
   alone, which is what bounds it on this machine.
2. Extraction with the real writer, on its thread, against one that discards everything: ratio of
    the times.

Both sides of a ratio run in turn in one process; medians over the repeats. Writes
benchmarks/results/writer.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from benchmark import Benchmark, run
from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.extraction.job import prepare
from glot_jax.extraction.shard import OpenSplit, store_shards
from glot_jax.extraction.shard_texts import cut_shards
from glot_jax.extraction.split_files import write_row_arrays, write_splits
from glot_jax.store.records import ShardRecord
from glot_jax.store.writer import ShardCounts, ShardWriter
from glot_jax.store.writer_thread import WriterThread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writer(Benchmark):
    """Throughput of the writer, and what it adds to an extraction."""

    data: Path
    """Folder of the task, with train.jsonl and validation.jsonl."""
    work: Path = Path("build/writer")
    task: str = "cola"
    backbone: str = "minilm"
    repeats: int = 5
    shards: int = 4
    tokens: int = 131_072
    """Of each shard."""
    dim: int = 384

    def smaller(self) -> Writer:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, repeats=1, shards=2, tokens=1024)


def seconds(action: Callable[[], object]) -> dict[str, float]:
    """Wall time and processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def write_plainly(folder: Path, states: np.ndarray, shards: int) -> None:
    """The least that is durable: one file a shard."""
    folder.mkdir(parents=True)
    for index in range(shards):
        with open(folder / f"{index}.npy", "wb") as file:
            np.save(file, states)
            file.flush()
            os.fsync(file.fileno())


def write_shards(folder: Path, states: np.ndarray, shards: int) -> None:
    """The same states as shards of a store, in pieces of a forward pass."""
    lengths = np.full(len(states) // 64, 64, np.int32)
    ids = np.zeros(len(states), np.int32)
    folder.mkdir(parents=True)
    sealed = []
    with WriterThread() as thread:
        for index in range(shards):
            shard = ShardWriter(
                folder, index, lengths, ids, dim=states.shape[1], dtypes={0: "float16"}
            )
            thread.begin(shard)
            for start in range(0, len(states), 8192):
                piece = states[start : start + 8192]
                thread.put(
                    lambda shard=shard, start=start, piece=piece: shard.put(0, start, piece),
                    piece.nbytes,
                )
            sealed.append(thread.finish(shard, ShardCounts(truncated=0, empty=0, max_abs=1.0)))
        for one in sealed:
            thread.result(one)


def throughput(bench: Writer) -> dict[str, Any]:
    """Megabytes per second, and ratios to np.save + fsync."""
    states = np.random.default_rng(0).normal(size=(bench.tokens, bench.dim)).astype(np.float16)
    total = states.nbytes * bench.shards
    times: dict[str, list[float]] = {
        "np.save + fsync": [],
        "writer": [],
        "writer without sha256": [],
        "sha256 alone": [],
    }
    no_hash = mock.patch.object(
        importlib.import_module("glot_jax.store.writer"), "file_sha256", return_value="0" * 64
    )

    def unhashed(folder: Path) -> None:
        with no_hash:
            write_shards(folder, states, bench.shards)

    actions = {
        "np.save + fsync": lambda folder: write_plainly(folder, states, bench.shards),
        "writer": lambda folder: write_shards(folder, states, bench.shards),
        "writer without sha256": unhashed,
        "sha256 alone": lambda _folder: [
            hashlib.sha256(states.data).digest() for _ in range(bench.shards)
        ],
    }
    for repeat in range(bench.repeats):
        for name in sorted(actions, reverse=bool(repeat % 2)):
            folder = bench.work / "shards"
            shutil.rmtree(folder, ignore_errors=True)
            os.sync()
            times[name].append(
                seconds(lambda name=name, folder=folder: actions[name](folder))["wall"]
            )
    speeds = {name: total / statistics.median(found) / 1e6 for name, found in times.items()}
    plain = times["np.save + fsync"]
    ratios = {
        name: statistics.median(a / b for a, b in zip(plain, found, strict=True))
        for name, found in times.items()
    }
    return {
        "bytes": total,
        "seconds": times,
        "megabytes_per_second": speeds,
        "speed_over_np_save": ratios,
    }


class Discard:
    """Takes everything a ShardWriter takes and keeps nothing."""

    def __init__(
        self,
        split: Path,
        index: int,
        lengths: np.ndarray,
        token_ids: np.ndarray,
        *,
        dim: int,
        dtypes: dict[int, str],
    ):
        del split, index, dtypes
        self._texts, self._tokens, self._dim = len(lengths), len(token_ids), dim

    def open(self) -> None:
        """See ShardWriter.open."""

    def put(
        self, layer: int, start: int, states: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        """See ShardWriter.put."""
        del layer, start, states, scales

    def abandon(self) -> None:
        """See ShardWriter.abandon."""

    def finish(self, counts: ShardCounts) -> ShardRecord:
        """See ShardWriter.finish."""
        return ShardRecord(
            texts=self._texts,
            tokens=self._tokens,
            dim=self._dim,
            dtypes={},
            files={},
            **vars(counts),
        )


def extraction(bench: Writer) -> dict[str, Any]:
    """Times of the model's part of an extraction, with the real writer and with none."""
    config = ExtractConfig(
        backbone=bench.backbone, task=bench.task, data=bench.data, out=bench.work / "store"
    )
    out = bench.work / "store"
    job = prepare(config, Console(file=io.StringIO()))
    module = importlib.import_module("glot_jax.extraction.shard")

    def start(name: str, thread: WriterThread) -> OpenSplit:
        table = job.new_table()
        examples = job.data.splits[name]
        shards = enumerate(cut_shards(examples, job.backbone, config.shard_tokens, table))
        return store_shards(job, name, shards, table, tokens=1, thread=thread)

    def seal(split: OpenSplit, thread: WriterThread) -> None:
        split.records(thread)
        write_row_arrays(out / split.name, split.table.arrays())

    def extract(writer: type) -> None:
        shutil.rmtree(out, ignore_errors=True)
        with mock.patch.object(module, "ShardWriter", writer):
            write_splits(job.data.splits, start, seal)

    times: dict[str, list[dict[str, float]]] = {"writer": [], "discarded": []}
    writers: dict[str, type] = {"writer": ShardWriter, "discarded": Discard}
    extract(Discard)
    for repeat in range(bench.repeats):
        for name in sorted(writers, reverse=bool(repeat % 2)):
            times[name].append(seconds(lambda name=name: extract(writers[name])))
    ratios = {
        clock: statistics.median(
            a[clock] / b[clock] for a, b in zip(times["writer"], times["discarded"], strict=True)
        )
        for clock in ("wall", "cpu")
    }
    of_medians = {
        clock: (
            statistics.median(one[clock] for one in times["writer"])
            / statistics.median(one[clock] for one in times["discarded"])
        )
        for clock in ("wall", "cpu")
    }
    return {"seconds": times, "time_over_discarding": ratios, "ratio_of_medians": of_medians}


def main(bench: Writer) -> None:
    """Measure both parts, print their ratios, and write `writer.json`."""
    settings = dataclasses.asdict(bench)
    for name in ("smoke", "results"):
        del settings[name]
    result = {
        "throughput": throughput(bench),
        "extraction": extraction(bench),
        "settings": {name: str(value) for name, value in settings.items()},
    }
    for name, value in result["throughput"]["megabytes_per_second"].items():
        print(
            f"{name}: {value:,.0f} MB/s, {result['throughput']['speed_over_np_save'][name]:.2f} of"
            " np.save + fsync"
        )
    for clock, value in result["extraction"]["time_over_discarding"].items():
        print(
            f"extraction over one that discards, {clock}: {value:.3f} (ratio of medians"
            f" {result['extraction']['ratio_of_medians'][clock]:.3f})"
        )
    shutil.rmtree(bench.work, ignore_errors=True)
    bench.write("writer", result)


if __name__ == "__main__":
    run(Writer, main)

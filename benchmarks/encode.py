"""Texts to vectors: `SentenceEncoder.encode` of a glot run against sentence-transformers' own
`encode` with mean pooling.

    python benchmarks/encode.py --data DIR [--texts 5000] [--repeats 5]

The same frozen model, texts and threads; loading, and a first pass in which our head is compiled,
apart. The two take turns. DIR holds stsb/train.jsonl (sentence1, sentence2), on which a head is
trained for one epoch first. Writes benchmarks/results/encode.json.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from machine import write_result
from sentence_transformers import SentenceTransformer

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.extraction.backbone_source import find_source
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.training import train


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Throughput of encoding."""

    data: Path
    texts: int = 5000
    repeats: int = 5
    batch_size: int = 32
    poolers: tuple[str, ...] = ("glot", "mean")


def main(bench: Benchmark) -> None:
    rows = [
        json.loads(line)
        for line in (bench.data / "stsb" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    texts = [row[name] for row in rows for name in ("sentence1", "sentence2")][: bench.texts]
    location = find_source("minilm", None).location
    theirs = SentenceTransformer(location, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        dump(ExtractConfig(backbone="minilm", task="stsb", data=bench.data / "stsb", out=store))
        encoders = {}
        for pooler in bench.poolers:
            train(
                TrainConfig(
                    store=store,
                    out=Path(scratch) / pooler,
                    epochs=1,
                    pooler=PoolerConfig(pooler=pooler),
                ),
                quiet=True,
            )
            encoders[pooler] = SentenceEncoder.load(Path(scratch) / pooler, device="cpu")
    assert encoders["mean"].backbone is not None
    theirs.max_seq_length = encoders["mean"].backbone.max_length
    # The same vectors first, up to the length that sentence-transformers scales to.
    ours, wanted = (
        encoders["mean"].encode(texts[:64], normalize=True),
        theirs.encode(texts[:64], show_progress_bar=False),
    )
    assert np.abs(ours - wanted).max() < 1e-5
    contenders = {
        "sentence-transformers, mean": lambda: theirs.encode(
            texts, batch_size=bench.batch_size, show_progress_bar=False
        )
    }
    contenders |= {
        f"ours, {name}": lambda encoder=encoder: encoder.encode(texts, batch_size=bench.batch_size)
        for name, encoder in encoders.items()
    }
    compile_seconds = {}
    for name, run in contenders.items():
        started = time.perf_counter()
        run()
        compile_seconds[name] = time.perf_counter() - started
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(bench.repeats):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    base = seconds["sentence-transformers, mean"]
    lines = []
    for name, of in seconds.items():
        ratio = statistics.median(first / second for first, second in zip(base, of, strict=True))
        lines.append(
            {
                "contender": name,
                "first_pass_seconds": compile_seconds[name],
                "seconds": of,
                "texts_per_second": len(texts) / statistics.median(of),
                "of_sentence_transformers": ratio,
            }
        )
        print(
            f"{name:28} {len(texts) / statistics.median(of):7.0f} texts/s, {ratio:.2f} of"
            f" sentence-transformers (median of {bench.repeats} rounds); first pass"
            f" {compile_seconds[name]:.1f} s"
        )
    settings = {
        "texts": len(texts),
        "repeats": bench.repeats,
        "batch_size": bench.batch_size,
        "torch_threads": torch.get_num_threads(),
    }
    print(f"wrote {write_result('encode', {'settings': settings, 'rows': lines})}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))

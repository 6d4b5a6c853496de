"""Texts to vectors: a glot run against sentence-transformers with mean pooling.

`SentenceEncoder.encode` is timed beside sentence-transformers' own `encode`.

    python benchmarks/encode.py --data DIR [--texts 5000] [--repeats 5] [--words 5 10 20 40]

The same frozen model, texts and threads; loading, and a first pass in which our head is compiled,
apart. The two take turns: over the sentences as they are, and over as many texts of so many words
each. DIR holds stsb/train.jsonl (sentence1, sentence2), on which a head is
trained for one epoch first. Writes benchmarks/results/encode.json.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import Benchmark, json_rows, require_equal, run
from sentence_transformers import SentenceTransformer

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.training import train

THEIRS = "sentence-transformers, mean"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encode(Benchmark):
    """Throughput of encoding."""

    data: Path
    texts: int = 5000
    repeats: int = 5
    batch_size: int = 32
    words: tuple[int, ...] = (5, 10, 20, 40)
    """Words of the texts that are of one length."""
    poolers: tuple[str, ...] = ("glot", "mean")

    def smaller(self) -> Encode:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, texts=20, repeats=1, words=(5,))


def read_texts(bench: Encode) -> list[str]:
    """The first sentences of STS-B's training rows."""
    texts = []
    for row in json_rows(bench.data / "stsb" / "train.jsonl"):
        texts += [row["sentence1"], row["sentence2"]]
    return texts[: bench.texts]


def texts_of(texts: list[str], words: int) -> list[str]:
    """As many texts, each of so many words: of all sentences, one after the other."""
    stream = itertools.cycle(" ".join(texts).split())
    return [" ".join(itertools.islice(stream, words)) for _ in texts]


def train_encoders(bench: Encode, folder: Path) -> dict[str, SentenceEncoder]:
    """A head of each pooler, trained for one epoch."""
    store = folder / "store"
    dump(ExtractConfig(backbone="minilm", task="stsb", data=bench.data / "stsb", out=store))
    encoders = {}
    for pooler in bench.poolers:
        config = TrainConfig(
            store=store, out=folder / pooler, epochs=1, pooler=PoolerConfig(pooler=pooler)
        )
        train(config, quiet=True)
        encoders[pooler] = SentenceEncoder.load(config.out, device="cpu")
    return encoders


def seconds_of(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def compare(
    bench: Encode,
    name_of_texts: str,
    texts: list[str],
    theirs: SentenceTransformer,
    encoders: dict[str, SentenceEncoder],
) -> list[dict[str, Any]]:
    """Time every encoder on some texts, in turns."""
    size = bench.batch_size
    contenders: dict[str, Callable[[], object]] = {
        THEIRS: functools.partial(theirs.encode, texts, batch_size=size, show_progress_bar=False)
    }
    for name, encoder in encoders.items():
        contenders[f"ours, {name}"] = functools.partial(encoder.encode, texts, batch_size=size)
    first_pass = {name: seconds_of(action) for name, action in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(bench.repeats):
        for name, action in contenders.items():
            seconds[name].append(seconds_of(action))
    rows = []
    for name, times in seconds.items():
        # Within a round, so that what disturbs the machine disturbs both sides.
        ratios = [theirs / ours for theirs, ours in zip(seconds[THEIRS], times, strict=True)]
        speed = len(texts) / statistics.median(times)
        ratio = statistics.median(ratios)
        row = {
            "texts": name_of_texts,
            "contender": name,
            "first_pass_seconds": first_pass[name],
            "seconds": times,
            "texts_per_second": speed,
            "of_sentence_transformers": ratio,
        }
        rows.append(row)
        print(
            f"{name_of_texts:12} {name:28} {speed:7.0f} texts/s, {ratio:.2f} of"
            f" sentence-transformers (median of {bench.repeats} rounds);"
            f" first pass {first_pass[name]:.1f} s"
        )
    return rows


def main(bench: Encode) -> None:
    """Time every encoder on the same texts, and write `encode.json`."""
    texts = read_texts(bench)
    theirs = SentenceTransformer(find_source("minilm", None).location, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        encoders = train_encoders(bench, Path(scratch))
    backbone = encoders["mean"].backbone
    if backbone is not None:
        theirs.max_seq_length = backbone.max_length
    # The same vectors first, up to the length that sentence-transformers scales to.
    ours = encoders["mean"].encode(texts[:64], normalize=True)
    expected = theirs.encode(texts[:64], show_progress_bar=False)
    require_equal("vectors of the mean", float(np.abs(ours - expected).max()), 1e-5)
    rows = compare(bench, "as they are", texts, theirs, encoders)
    for words in bench.words:
        alike = texts_of(texts, words)
        rows += compare(bench, f"{words} words", alike, theirs, encoders)
    settings = {
        "texts": len(texts),
        "repeats": bench.repeats,
        "batch_size": bench.batch_size,
        "torch_threads": torch.get_num_threads(),
    }
    bench.write("encode", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    run(Encode, main)

"""Where the backends cross, and how they grow with length.

Dense against blockwise by length, blockwise against sparse by density.

    python benchmarks/backends.py [--repeats N]

Training steps at 16,384 tokens a batch, dim 384, hidden 128, K 2, float32. Densities are made with
the window rule, whose edges are as many as one likes. `--backend auto` takes its constants from
here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from benchmark import Benchmark, run

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.dispatch.memory import keep_memory
from glot_jax.profiling.ceilings import measure_ceilings
from glot_jax.profiling.head import profile_head
from glot_jax.profiling.shapes import synthetic_batch

DIM = 384
HEAD = PoolerConfig(hidden_dim=128)
MOST_PAIRS = 1 << 28
"""Pairs of tokens of the dense backend: 1 GiB an array."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backends(Benchmark):
    """Training steps of every backend, by length and by density."""

    repeats: int = 5
    tokens: int = 16_384
    """Tokens of a batch."""
    lengths: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096, 8192)
    """Lengths at which dense and blockwise are compared, full graphs."""
    long_lengths: tuple[int, ...] = (1024, 4096)
    """Lengths at which all backends are compared, by density."""
    densities: tuple[float, ...] = (1 / 32, 1 / 128, 1 / 512, 1 / 2048)

    def smaller(self) -> Backends:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self, repeats=1, tokens=128, lengths=(16,), long_lengths=(64,), densities=(1 / 8,)
        )


def measure(bench: Backends, graph: GraphConfig, length: int) -> dict[str, Any]:
    """Times of one training step and one forward pass with this graph at this length."""
    texts = bench.tokens // length
    batches = [
        synthetic_batch(dim=DIM, length=length, batch_size=texts, seed=seed) for seed in range(2)
    ]
    ceilings = measure_ceilings()
    profile = profile_head(graph, HEAD, batches, repeats=bench.repeats, ceilings=ceilings)
    jax.clear_caches()
    return {
        "backend": graph.backend,
        "rule": graph.graph,
        "length": length,
        "texts": texts,
        "density": profile.density,
        "step_ms": profile.step_ms,
        "forward_ms": profile.forward_ms,
        "peak_bytes": profile.peak_bytes,
        "over_floor": profile.over_floor,
    }


def print_row(row: dict[str, Any]) -> None:
    """Print the names and values of a row in one line."""
    parts = []
    for name, value in row.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{name} {text}")
    print("  ".join(parts), flush=True)


def fits(bench: Backends, backend: str, length: int) -> bool:
    """Whether the pairs of a batch of this length fit into the memory that a backend needs."""
    return backend != "dense" or bench.tokens * length <= MOST_PAIRS


def full_graphs(bench: Backends) -> Iterator[tuple[GraphConfig, int]]:
    """Dense and blockwise with every pair linked, length by length."""
    for length in bench.lengths:
        for backend in ("dense", "blockwise"):
            if fits(bench, backend, length):
                yield GraphConfig(backend=backend), length


def thin_graphs(bench: Backends) -> Iterator[tuple[GraphConfig, int]]:
    """All backends with the window that gives each density.

    The fewest edges come first: there the sparse backend has its chance, and with many it takes
    minutes.
    """
    for length in bench.long_lengths:
        for density in sorted(bench.densities):
            window = round((density * length - 1) / 2)
            if window < 1:
                continue
            for backend in ("dense", "blockwise", "sparse"):
                if fits(bench, backend, length):
                    yield GraphConfig(backend=backend, graph="window", window=window), length


def main(bench: Backends) -> None:
    """Measure both parts, print a line a measurement, and write `backends.json`."""
    keep_memory()
    rows: dict[str, list[dict[str, Any]]] = {"by_length": [], "by_density": []}
    for part, graphs in (("by_length", full_graphs(bench)), ("by_density", thin_graphs(bench))):
        for graph, length in graphs:
            row = measure(bench, graph, length)
            print_row(row)
            rows[part].append(row)
            # After every row: what is measured is not lost with what follows.
            settings = {"tokens": bench.tokens, "dim": DIM, "hidden_dim": HEAD.hidden_dim}
            bench.write("backends", {**settings, **rows})


if __name__ == "__main__":
    run(Backends, main)

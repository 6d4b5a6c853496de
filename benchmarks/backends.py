"""Where the backends cross: dense against blockwise by length, blockwise against sparse by density;
growth with length.

    python benchmarks/backends.py [--repeats N]

Training steps at 16,384 tokens a batch, dim 384, hidden 128, K 2, float32. Densities are made with
the window rule, whose edges are as many as one likes. `--backend auto` takes its constants from
here.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from machine import write_result

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.profiling.head import measure_ceilings, profile_head, synthetic_batch
from glot_jax.training.memory import keep_memory

TOKENS, DIM, HEAD = 16_384, 384, PoolerConfig(hidden_dim=128)
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
DENSITIES = (1 / 32, 1 / 128, 1 / 512, 1 / 2048)
MOST_PAIRS = 1 << 28  # of the dense backend: 1 GiB an array


def measure(graph: GraphConfig, length: int, repeats: int) -> dict[str, Any]:
    batches = [
        synthetic_batch(dim=DIM, length=length, batch_size=TOKENS // length, seed=seed)
        for seed in range(2)
    ]
    of = profile_head(graph, HEAD, batches, repeats=repeats, ceilings=measure_ceilings())
    jax.clear_caches()
    row = {
        "backend": graph.backend,
        "rule": graph.graph,
        "length": length,
        "texts": TOKENS // length,
        "density": of.density,
        "step_ms": of.step_ms,
        "forward_ms": of.forward_ms,
        "peak_bytes": of.peak_bytes,
        "over_floor": of.over_floor,
    }
    print(
        "  ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.items()
        ),
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    keep_memory()
    by_length: list[dict[str, Any]] = []
    by_density: list[dict[str, Any]] = []

    def keep(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
        rows.append(row)
        # After every row: what is measured is not lost with what follows.
        write_result(
            "backends",
            {
                "tokens": TOKENS,
                "dim": DIM,
                "hidden_dim": HEAD.hidden_dim,
                "by_length": by_length,
                "by_density": by_density,
            },
        )

    for length in LENGTHS:
        for backend in ("dense", "blockwise"):
            if backend == "blockwise" or TOKENS * length <= MOST_PAIRS:
                keep(by_length, measure(GraphConfig(backend=backend), length, arguments.repeats))
    # The fewest edges first: there the sparse backend has its chance, and with many it takes
    # minutes.
    for length in (1024, 4096):
        for density in sorted(DENSITIES):
            window = round((density * length - 1) / 2)
            if window >= 1:
                for backend in ("dense", "blockwise", "sparse"):
                    if backend != "dense" or TOKENS * length <= MOST_PAIRS:
                        keep(
                            by_density,
                            measure(
                                GraphConfig(backend=backend, graph="window", window=window),
                                length,
                                arguments.repeats,
                            ),
                        )


if __name__ == "__main__":
    main()

r"""One table of many runs: `glot compare` beside a shell loop over `train.py`.

    python extract.py --backbone minilm --task cola --data DIR --layers 3 5 6 --out STORE
    python benchmarks/compare.py --store STORE [--seeds 1 2 ... 10] [--loop-seeds 1]

The same runs both ways: every pooler on every layer with every seed, settings at their defaults,
epochs selected on a holdout. The loop starts a process a run, as one does without the command, and
keeps no compiled programs (`--compile-cache off`) or those of the runs before it; it trains
--loop-seeds alone, and its seconds for all seeds are the mean of these times their number. Scores
of both ways must be equal. Writes benchmarks/results/compare.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmark import Benchmark, require_equal, run

HERE = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Benchmark):
    """Seconds of a table."""

    store: Path
    work: Path = Path("build/compare")
    """Folder of the runs; those of an earlier call are deleted by hand."""
    poolers: tuple[str, ...] = ("mean", "cls", "max", "adapool", "mlp", "pma", "glot")
    layers: tuple[int, ...] = (3, 5, 6)
    seeds: tuple[int, ...] = tuple(range(1, 11))
    loop_seeds: tuple[int, ...] = (1,)
    """Seeds of the loop."""
    caches: tuple[str, ...] = ("off", "kept")
    """Of the loop."""

    def smaller(self) -> Compare:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            poolers=("mean", "max"),
            layers=(2,),
            seeds=(1, 2),
            caches=("off",),
        )


def timed(*words: str | Path) -> float:
    """Seconds of a command, from its start to its end."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=HERE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begin


def loop(bench: Compare, cache: str) -> tuple[float, dict[str, dict[str, float]]]:
    """Seconds of the loop, and the scores of its runs by pooler, layer and seed."""
    out = bench.work.resolve() / f"loop-{cache}"
    store = bench.store.resolve()
    kept = "off" if cache == "off" else str(out / "programs")
    seconds = 0.0
    scores = {}
    for layer in bench.layers:
        for pooler in bench.poolers:
            for seed in bench.loop_seeds:
                name = f"{pooler}-{layer}-{seed}"
                seconds += timed(
                    *("train.py", "--store", store, "--out", out / name),
                    *("--pooler", pooler, "--layer", str(layer), "--seed", str(seed)),
                    *("--select-on", "holdout", "--compile-cache", kept),
                )
                scores[name] = score_of(out / name)
                print(f"loop, cache {cache}: {name}, {seconds:.0f} s so far", flush=True)
    return seconds, scores


def score_of(run_folder: Path) -> dict[str, float]:
    """Scores on the validation split at the best epoch."""
    summary: dict[str, Any] = json.loads((run_folder / "summary.json").read_text())
    return summary["validation"]["best"]


def main(bench: Compare) -> None:
    """Time both ways, require equal scores, and write the table."""
    work = bench.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    out = work / "compared"
    command = timed(
        *("-m", "glot_jax", "compare", "--store", bench.store.resolve(), "--out", out),
        *("--pooler", *bench.poolers, "--layer", *map(str, bench.layers)),
        *("--seeds", *map(str, bench.seeds), "--compile-cache", work / "programs"),
    )
    print(f"glot compare: {command:.0f} s", flush=True)
    comparison = json.loads((out / "comparison.json").read_text())
    ways: dict[str, Any] = {"glot compare": {"seconds": command, "programs": "none at its start"}}
    runs = len(bench.poolers) * len(bench.layers)
    for cache in bench.caches:
        seconds, scores = loop(bench, cache)
        for name, values in scores.items():
            pooler, layer, seed = name.rsplit("-", 2)
            # One layer, or one pooler, is in no name of a folder.
            folder = pooler if len(bench.layers) == 1 else f"{pooler}_layer-{layer}"
            same = score_of(out / folder / f"seed-{seed}")
            for metric, value in values.items():
                require_equal(f"{name}: {metric}", abs(value - same[metric]), 1e-6)
        whole = seconds / len(bench.loop_seeds) * len(bench.seeds)
        ways[f"loop, programs {cache}"] = {
            "measured_runs": runs * len(bench.loop_seeds),
            "measured_seconds": seconds,
            "seconds": whole,
            "times": whole / command,
        }
        print(f"loop, programs {cache}: {whole:.0f} s, {whole / command:.1f} times as long")
    values = {
        "runs": runs * len(bench.seeds),
        "poolers": bench.poolers,
        "layers": bench.layers,
        "seeds": bench.seeds,
        "ways": ways,
        "table": comparison["comparison"],
    }
    bench.write("compare", values)


if __name__ == "__main__":
    run(Compare, main)

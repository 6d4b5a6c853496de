r"""A billion texts on paper: bytes, GPU hours, the bandwidth of training, what a lost node costs.

    python benchmarks/scale_plan.py

Arithmetic, nothing is run. What goes in is measured (named below), cited, or assumed, and is
printed; other texts and models are flags. Prints the table of docs/clusters.md and writes
benchmarks/results/scale_plan.json.
"""

from __future__ import annotations

import dataclasses

from benchmark import Benchmark, run

BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.53}
"""Of one number; int4 with a float16 scale for each 64 of them: .27 of float16's."""
ROW_BYTES = 25
"""Of the row arrays, for a row of one text: label, offset and number of 8 bytes each, a role."""
MANIFEST_BYTES = 15_000
"""Of the manifest, for a shard and layer, most of it counts of norms (measured: 9 to 19 kB)."""
GLOT_ROWS = 27_011.9
"""Rows of CoLA that a head learns a second, dim 768, hidden 128 (results/gpu.json)."""
GLOT_TOKENS = 11.3
"""Tokens of such a row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalePlan(Benchmark):
    """What a store and a head of many texts ask of machines."""

    texts: float = 1e9
    tokens: float = 32.0
    """Of a text."""
    parameters: float = 7e9
    """Of the backbone; a token takes two operations for each."""
    dim: int = 4096
    """Of a state."""
    flops: float = 989e12
    """Of a GPU, bfloat16 without sparsity: NVIDIA's data sheet of the H100 SXM."""
    share: float = 0.4
    """Of them that a forward pass reaches. An assumption."""
    tokenised: float = 600_000.0
    """Tokens that one process with two cores cuts a second (results/tokenising.json)."""
    shard_tokens: float = 2.0**24
    gpus: int = 64


def plan(bench: ScalePlan) -> list[tuple[str, str, str]]:
    """Rows of the table: what, how it is computed, what comes out."""
    tokens = bench.texts * bench.tokens
    seconds_a_token = 2 * bench.parameters / (bench.flops * bench.share)
    gpu_hours = tokens * seconds_a_token / 3600
    shards = tokens / bench.shard_tokens
    shard_minutes = bench.shard_tokens * seconds_a_token / 60
    # A head learns states as fast as it did there: of a wider model fewer tokens, as many numbers.
    head_numbers = GLOT_ROWS * GLOT_TOKENS * 768
    epoch_hours = tokens * bench.dim / head_numbers / 3600
    reads = head_numbers * BYTES["int4"] / 1e9
    rows = [("tokens", "texts x tokens of a text", f"{tokens:.2g}")]
    for name, size in BYTES.items():
        terabytes = tokens * bench.dim * size / 1e12
        formula = f"tokens x {bench.dim:,} x {size:g} bytes"
        rows.append((f"store, {name}", formula, f"{terabytes:,.0f} TB"))
    learned = f"({GLOT_ROWS:,.0f} rows x {GLOT_TOKENS} tokens x 768 a second)"
    operations = f"tokens x 2 x {bench.parameters / 1e9:g}e9"
    rate = f"({bench.flops / 1e12:g}e12 x {bench.share:g})"
    return [
        *rows,
        (
            "extraction",
            f"{operations} / {rate}",
            f"{gpu_hours:,.0f} GPU hours; {gpu_hours / bench.gpus:,.1f} hours on {bench.gpus}",
        ),
        (
            "tokenising",
            f"tokens / {bench.tokenised:,.0f} a second, one process",
            f"{tokens / bench.tokenised / 3600:,.0f} hours",
        ),
        (
            "shards",
            f"tokens / {bench.shard_tokens:,.0f}",
            f"{shards:,.0f}, and a manifest of {shards * MANIFEST_BYTES / 1e6:,.0f} MB a layer",
        ),
        (
            "a lost node",
            "one shard of each of its GPUs",
            f"{shard_minutes:,.1f} minutes of each at most",
        ),
        (
            "row arrays",
            f"texts x {ROW_BYTES} bytes",
            f"{bench.texts * ROW_BYTES / 1e9:,.0f} GB in memory",
        ),
        (
            "an epoch, one GPU",
            f"tokens x {bench.dim:,} / {learned}",
            f"{epoch_hours:,.0f} hours, reading {reads:.2f} GB of int4 a second",
        ),
        (
            f"an epoch, {bench.gpus} GPUs",
            "the same, divided",
            f"{epoch_hours / bench.gpus:,.1f} hours, {reads * bench.gpus:,.0f} GB a second in all",
        ),
    ]


def main(bench: ScalePlan) -> None:
    """Print and write the plan."""
    rows = plan(bench)
    print("| what | how | comes to |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    settings = dataclasses.asdict(bench)
    for name in ("smoke", "results"):
        del settings[name]
    bench.write("scale_plan", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    run(ScalePlan, main)

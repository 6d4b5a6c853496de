"""Draw results/head.json as results/head.svg.

The training step of every contender at every shape, and the floor.

Prints how our step and forward pass grow with a text's length, beside length².

    python benchmarks/head_chart.py
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import matplotlib
from benchmark import RESULTS, Benchmark, run
from matplotlib.axes import Axes

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Without a salt of ours ids inside an SVG are random, and equal charts differ in their bytes.
matplotlib.rcParams["svg.hashsalt"] = "glot-jax"
# Letters as letters: drawn as curves they are two thirds of the file.
matplotlib.rcParams["svg.fonttype"] = "none"

LABELS = {
    "pyg-broadcast": "PyTorch Geometric, cosine as released",
    "pyg-matmul": "PyTorch Geometric, cosine as matmul",
    "torch-dense": "dense PyTorch, eager",
    "torch-compiled": "dense PyTorch, torch.compile",
    "ours-sparse": "GLOT-JAX sparse (jraph)",
    "ours-dense": "GLOT-JAX dense",
    "ours-blockwise": "GLOT-JAX blockwise",
}
COLORS = ("#b0b7c3", "#8892a4", "#e0a458", "#c8761c", "#9ec5e8", "#1f6fb4", "#0b3c68")

Shape = dict[str, Any]
"""One shape of head.json: its sizes, `contenders`, `step` and `forward`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadChart(Benchmark):
    """The chart of head.json."""


def tokens_of(shape: Shape) -> float:
    """Real tokens of a text, on average."""
    return shape["real_tokens"] / shape["batch"]


def milliseconds(shape: Shape, kind: str) -> float:
    """Time of one text with the faster of our backends."""
    times = []
    for name, contender in shape["contenders"].items():
        if name.startswith("ours") and isinstance(contender, dict):
            times.append(contender[f"{kind}_ms"])
    return min(times) / shape["batch"]


def print_growth(shapes: list[Shape]) -> None:
    """Print how times grow with length; `shapes` have one width, the shortest comes first."""
    # The padded ones of a short batch are passed over.
    full = [shape for shape in shapes if shape["tokens"] is None]
    longer = full[-1]["length"] / full[0]["length"]
    for kind in ("step", "forward"):
        times = [milliseconds(shape, kind) for shape in full]
        parts = []
        for time, shape in zip(times, full, strict=True):
            parts.append(f"{time:,.1f} ms at {shape['length']:,}")
        print(
            f"dim {full[0]['dim']}, {kind} of one text: {', '.join(parts)} tokens;"
            f" {times[-1] / times[0]:,.0f} times for {longer:.0f} times the length"
            f" (length² {longer**2:,.0f})"
        )


def draw(axis: Axes, shapes: list[Shape]) -> None:
    """Every contender's training step, and the floor, by tokens of a text."""
    for (name, label), color in zip(LABELS.items(), COLORS, strict=True):
        measured = [shape for shape in shapes if isinstance(shape["contenders"].get(name), dict)]
        if not measured:
            continue
        tokens = [tokens_of(shape) for shape in measured]
        times = [shape["contenders"][name]["step_ms"] for shape in measured]
        axis.plot(tokens, times, marker="o", markersize=3.5, color=color, label=label)
    floors = [shape["step"]["floor_ms"] for shape in shapes]
    tokens = [tokens_of(shape) for shape in shapes]
    axis.plot(tokens, floors, color="black", linestyle=":", label="floor")
    title = f"dim {shapes[0]['dim']}, hidden {shapes[0]['hidden']}"
    axis.set(xscale="log", yscale="log", title=title, xlabel="tokens a text")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", linewidth=0.4, alpha=0.5)


def main(bench: HeadChart) -> None:
    """Draw `head.svg` from `head.json`."""
    results = json.loads((RESULTS / "head.json").read_text())
    dims = sorted({shape["dim"] for shape in results["shapes"]})
    size = (4.2 * len(dims), 3.8)
    figure, axes = plt.subplots(
        1, len(dims), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axis, dim in zip(axes[0], dims, strict=True):
        shapes = [shape for shape in results["shapes"] if shape["dim"] == dim]
        shapes.sort(key=lambda shape: shape["length"])
        print_growth(shapes)
        draw(axis, shapes)
    axes[0][0].set_ylabel("training step, ms")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    machine = results["machine"]
    title = f"{machine['processor']}, {machine['cores']} cores, float32, {machine['date']}"
    figure.suptitle(title, fontsize=9)
    bench.results.mkdir(parents=True, exist_ok=True)
    figure.savefig(bench.results / "head.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    run(HeadChart, main)

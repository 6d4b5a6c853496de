"""Draw results/head.json as results/head.png: the training step of every contender at every shape,
and the floor.

Prints how our step and forward pass grow with a text's length, beside length².

    python benchmarks/head_chart.py
"""

from __future__ import annotations

import json

import matplotlib
from machine import RESULTS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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


def tokens_of(shape: dict) -> float:
    """Real tokens of a text, on average."""
    return shape["real_tokens"] / shape["batch"]


def milliseconds(shape: dict, kind: str) -> float:
    """Of a text, with the faster of our backends."""
    return (
        min(
            of[f"{kind}_ms"]
            for name, of in shape["contenders"].items()
            if name.startswith("ours") and isinstance(of, dict)
        )
        / shape["batch"]
    )


def print_growth(shapes: list[dict]) -> None:
    """`shapes` of one width, shortest first; the padded ones of a short batch are passed over."""
    shapes = [shape for shape in shapes if shape["tokens"] is None]
    for kind in ("step", "forward"):
        times = [milliseconds(shape, kind) for shape in shapes]
        longer = shapes[-1]["length"] / shapes[0]["length"]
        listed = ", ".join(
            f"{time:,.1f} ms at {shape['length']:,}"
            for time, shape in zip(times, shapes, strict=True)
        )
        print(
            f"dim {shapes[0]['dim']}, {kind} of one text: {listed} tokens;"
            f" {times[-1] / times[0]:,.0f} times for {longer:.0f} times the length (length²"
            f" {longer**2:,.0f})"
        )


def main() -> None:
    results = json.loads((RESULTS / "head.json").read_text())
    dims = sorted({shape["dim"] for shape in results["shapes"]})
    figure, axes = plt.subplots(
        1,
        len(dims),
        figsize=(4.2 * len(dims), 3.8),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axis, dim in zip(axes[0], dims, strict=True):
        shapes = sorted(
            (shape for shape in results["shapes"] if shape["dim"] == dim),
            key=lambda shape: shape["length"],
        )
        print_growth(shapes)
        for (name, label), color in zip(LABELS.items(), COLORS, strict=True):
            points = [
                (tokens_of(shape), shape["contenders"][name]["step_ms"])
                for shape in shapes
                if isinstance(shape["contenders"].get(name), dict)
            ]
            (
                axis.plot(
                    *zip(*points, strict=True), marker="o", markersize=3.5, color=color, label=label
                )
                if points
                else None
            )
        axis.plot(
            [tokens_of(shape) for shape in shapes],
            [shape["step"]["floor_ms"] for shape in shapes],
            color="black",
            linestyle=":",
            label="floor",
        )
        axis.set(
            xscale="log",
            yscale="log",
            title=f"dim {dim}, hidden {shapes[0]['hidden']}",
            xlabel="tokens a text",
        )
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", linewidth=0.4, alpha=0.5)
    axes[0][0].set_ylabel("training step, ms")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['processor']}, {machine['cores']} cores, float32, {machine['date']}", fontsize=9
    )
    figure.savefig(RESULTS / "head.png", dpi=150)


if __name__ == "__main__":
    main()

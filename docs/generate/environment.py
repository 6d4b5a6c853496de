"""The page of environment variables that are ours."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "glot_jax"

OURS = {
    "GLOT_JAX_CACHE": "Folder of the caches: token states, dequantised models. "
    "Default: `$XDG_CACHE_HOME/glot-jax`, else `~/.cache/glot-jax`.",
    "GLOT_JAX_CACHE_GB": "Gigabytes of dequantised models that are kept. Default: 64.",
    "GLOT_JAX_STATES_GB": "Gigabytes of token states that are kept. Default: 20.",
    "GLOT_JAX_COMPILED_GB": "Gigabytes of compiled programs that are kept. Default: 0.25.",
    "GLOT_SERVE_KEY": "The key of `glot serve`, sent as `Authorization: Bearer KEY`.",
}
"""Variables of this package; a test compares them with the code."""

OTHERS = {
    "JAX_COMPILATION_CACHE_DIR": "Where it is set, the compile cache is JAX's own affair.",
    "JAX_PLATFORMS": "`cpu` keeps JAX off a GPU.",
    "XLA_FLAGS": "Where they decide how matrices are multiplied, nothing is measured.",
    "HF_HUB_OFFLINE": "`1` forbids every download and upload of the Hugging Face clients.",
    "CUDA_VISIBLE_DEVICES": "The GPUs that a process sees.",
    "WANDB_MODE, MLFLOW_TRACKING_URI": "Send a followed run to a server; without them nothing "
    "leaves the machine.",
}
"""Variables of other packages that change what is done here."""


def read_by_the_package() -> set[str]:
    """Names of our variables in the code."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        names.update(re.findall(r"\"(GLOT_[A-Z_]+)\"", path.read_text("utf-8")))
    return names


def pages() -> dict[str, str]:
    """The page, by its path."""
    lines = ["# Environment variables", "", "| variable | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in OURS.items()]
    lines += ["", "## Of other packages", "", "| variable | what it does here |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in OTHERS.items()]
    return {"reference/environment.md": "\n".join([*lines, ""])}

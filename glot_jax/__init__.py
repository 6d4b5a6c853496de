"""GLOT-JAX: turn the token states of a frozen language model into one sentence vector.

texts -> tokens -> hidden states -> store   -> batches -> token graph -> GNN -> readout -> head
└ texts/ ┘└── extraction/ ──────┘└─ store/ ─────────┘└─ graphs/ ─┘└─── pooling/ ──┘└─ objectives/ ┘

`training/` runs the loop over them and writes checkpoints. `extract.py` runs the frozen model once
(PyTorch), `train.py` does the rest (JAX). From Python:

    from glot_jax import token_graph, Glot, HiddenStore, SentenceEncoder
    # hidden [batch, length, dim], mask [batch, length]
    graph = token_graph(hidden, mask, tau=0.6)
    pooled = Glot(dim=384, hidden_dim=128, rngs=nnx.Rngs(0))(graph)
    vectors = SentenceEncoder.load("runs/cola-glot").encode(["a sentence"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from glot_jax import moved
from glot_jax.version import __version__

if TYPE_CHECKING:
    from glot_jax.batches.token_batch import TokenBatch
    from glot_jax.config.extract import ExtractConfig
    from glot_jax.config.train import TrainConfig
    from glot_jax.errors import UsageError
    from glot_jax.graphs import TokenGraph, token_graph
    from glot_jax.inference.encoder import SentenceEncoder
    from glot_jax.pooling import AdaPool, Cls, Glot, Max, Mean
    from glot_jax.store import HiddenStore

# Loaded on first use: `import glot_jax` must cost neither torch nor jax.
_HOMES = {
    "glot_jax.batches.token_batch": ("TokenBatch",),
    "glot_jax.config.extract": ("ExtractConfig",),
    "glot_jax.config.train": ("TrainConfig",),
    "glot_jax.errors": ("UsageError",),
    "glot_jax.graphs": ("TokenGraph", "token_graph"),
    "glot_jax.inference.encoder": ("SentenceEncoder",),
    "glot_jax.pooling": ("AdaPool", "Cls", "Glot", "Max", "Mean"),
    "glot_jax.store": ("HiddenStore",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AdaPool",
    "Cls",
    "ExtractConfig",
    "Glot",
    "HiddenStore",
    "Max",
    "Mean",
    "SentenceEncoder",
    "TokenBatch",
    "TokenGraph",
    "TrainConfig",
    "UsageError",
    "__version__",
    "token_graph",
]

# Names of the version before are found where they were, with a warning.
moved.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'glot_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

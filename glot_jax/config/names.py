"""Names that a command line may give, known without importing what they name.

The tables stand beside the code (`POOLERS`, `GNN_LAYERS`, `RULES`, `SELECTABLE`, ...), which needs
JAX; a typing mistake must not cost the seconds of its import. A test compares these names with the
tables.
"""

from __future__ import annotations

POOLERS = (
    "cls",
    "first",
    "last",
    "mean",
    "max",
    "weighted-mean",
    "mean-sqrt-len",
    "pma",
    "latent-attention",
    "adapool",
    "adapool-attention",
    "mlp",
    "glot",
)
"""Names of glot_jax.pooling.POOLERS."""

GNN_LAYERS = ("gat", "gcn", "gin", "gine", "sage")
"""Names of glot_jax.pooling.GNN_LAYERS."""

RULES = ("threshold", "knn", "window", "self", "complete", "random")
"""Names of glot_jax.graphs.RULES."""

BACKENDS = ("dense", "sparse", "blockwise", "auto")
"""Names of glot_jax.graphs.SELECTABLE."""

JUMPING_KNOWLEDGE = ("cat", "max", "mean", "none")
"""What a GNN can do with the outputs of its layers."""

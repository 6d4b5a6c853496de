"""GLOT-JAX: turn the token states of a frozen language model into one sentence vector.

texts -> tokens -> hidden states -> store -> batches -> token graph -> GNN -> readout -> head, loss
texts/   backbones/ extraction/     store/   batches/   graphs/        pooling/          objectives/

`training/` runs the loop over them and writes `run_folders/`. `extract.py` runs the frozen model
once (PyTorch), `train.py` does the rest (JAX). From Python:

    from glot_jax import Glot, HiddenStore, SentenceEncoder, token_graph
    # hidden [batch, length, dim], mask [batch, length]
    graph = token_graph(hidden, mask, tau=0.6)
    pooled = Glot(dim=384, hidden_dim=128, rngs=nnx.Rngs(0))(graph)
    vectors = SentenceEncoder.load("runs/cola-glot").encode(["a sentence"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from glot_jax import moved
from glot_jax.version import __version__

# For type checkers and editors, which do not run `__getattr__`.
if TYPE_CHECKING:
    from glot_jax.batches.token_batch import TokenBatch
    from glot_jax.commands import ExtractResult, TrainResult, extract, train
    from glot_jax.compile_cache import use_compile_cache
    from glot_jax.config.extract import ExtractConfig
    from glot_jax.config.train import TrainConfig
    from glot_jax.errors import UsageError
    from glot_jax.explaining.explainer import Explainer, explain
    from glot_jax.extraction import Backbone
    from glot_jax.graphs import TokenGraph, token_graph
    from glot_jax.inference.encoder import SentenceEncoder
    from glot_jax.inference.estimators import TextClassifier, TextRegressor, load
    from glot_jax.inference.predictor import Predictor, predict
    from glot_jax.pooling import AdaPool, Cls, Glot, Max, Mean
    from glot_jax.run_folders.run_folder import RunFolder
    from glot_jax.run_tables.frame import read_runs
    from glot_jax.store import HiddenStore
    from glot_jax.store.state_cache import clear_cache
    from glot_jax.training.evaluation import evaluate_run, load_model
    from glot_jax.training.evaluation import judge_run as evaluate

# Loaded on first use: `import glot_jax` must cost neither torch nor jax.
_HOMES = {
    "AdaPool": "glot_jax.pooling",
    "Backbone": "glot_jax.extraction",
    "Cls": "glot_jax.pooling",
    "ExtractConfig": "glot_jax.config.extract",
    "Explainer": "glot_jax.explaining.explainer",
    "ExtractResult": "glot_jax.commands",
    "Glot": "glot_jax.pooling",
    "HiddenStore": "glot_jax.store",
    "Max": "glot_jax.pooling",
    "Mean": "glot_jax.pooling",
    "Predictor": "glot_jax.inference.predictor",
    "RunFolder": "glot_jax.run_folders.run_folder",
    "SentenceEncoder": "glot_jax.inference.encoder",
    "TextClassifier": "glot_jax.inference.estimators",
    "TextRegressor": "glot_jax.inference.estimators",
    "TokenBatch": "glot_jax.batches.token_batch",
    "TokenGraph": "glot_jax.graphs",
    "TrainConfig": "glot_jax.config.train",
    "TrainResult": "glot_jax.commands",
    "UsageError": "glot_jax.errors",
    "clear_cache": "glot_jax.store.state_cache",
    "evaluate": "glot_jax.training.evaluation",
    "evaluate_run": "glot_jax.training.evaluation",
    "explain": "glot_jax.explaining.explainer",
    "extract": "glot_jax.commands",
    "load": "glot_jax.inference.estimators",
    "load_model": "glot_jax.training.evaluation",
    "predict": "glot_jax.inference.predictor",
    "read_runs": "glot_jax.run_tables.frame",
    "token_graph": "glot_jax.graphs",
    "train": "glot_jax.commands",
    "use_compile_cache": "glot_jax.compile_cache",
}
_NAMES_AT_HOME = {"evaluate": "judge_run"}
"""Public names that are called otherwise where they are defined."""

__all__ = [
    "AdaPool",
    "Backbone",
    "Cls",
    "Explainer",
    "ExtractConfig",
    "ExtractResult",
    "Glot",
    "HiddenStore",
    "Max",
    "Mean",
    "Predictor",
    "RunFolder",
    "SentenceEncoder",
    "TextClassifier",
    "TextRegressor",
    "TokenBatch",
    "TokenGraph",
    "TrainConfig",
    "TrainResult",
    "UsageError",
    "__version__",
    "clear_cache",
    "evaluate",
    "evaluate_run",
    "explain",
    "extract",
    "load",
    "load_model",
    "predict",
    "read_runs",
    "token_graph",
    "train",
    "use_compile_cache",
]

# Names of the version before are found where they were, with a warning.
moved.install()


def __getattr__(name: str) -> object:
    # Python calls it for names that the module lacks (PEP 562).
    if name not in _HOMES:
        raise AttributeError(f"module 'glot_jax' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return getattr(home, _NAMES_AT_HOME.get(name, name))


def __dir__() -> list[str]:
    # Without it, `dir` and completion in a notebook would not show what has not been loaded yet.
    return sorted(__all__)

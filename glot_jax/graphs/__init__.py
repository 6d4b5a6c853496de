"""Batches -> token graphs: the cosine, the rules that read it, and one interface over two backends.

Pure functions and modules of JAX: nothing here reads a file, keeps state or draws a random number
    of its own.
"""

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.graphs.similarity import RULES
from glot_jax.graphs.stem import BACKENDS, SELECTABLE, Stem, token_graph
from glot_jax.graphs.token_graph import TokenGraph

__all__ = ["BACKENDS", "RULES", "SELECTABLE", "Stem", "TokenBatch", "TokenGraph", "token_graph"]

"""Batches -> token graphs.

The cosine of token states, the rules that read it, and one interface over three backends. Pure
functions and modules of JAX: nothing here reads a file or draws a random number of its own.
"""

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.graphs.backends import BACKENDS, SELECTABLE
from glot_jax.graphs.flat import EdgeList
from glot_jax.graphs.from_states import token_graph

# Not only for the two names: the import lets TokenGraph's methods of these names do their work.
from glot_jax.graphs.jraph_graph import from_jraph, to_jraph
from glot_jax.graphs.rules import RULES, Rule
from glot_jax.graphs.stem import Stem, StemNumbers
from glot_jax.graphs.token_graph import TokenGraph

__all__ = [
    "BACKENDS",
    "RULES",
    "SELECTABLE",
    "EdgeList",
    "Rule",
    "Stem",
    "StemNumbers",
    "TokenBatch",
    "TokenGraph",
    "from_jraph",
    "to_jraph",
    "token_graph",
]

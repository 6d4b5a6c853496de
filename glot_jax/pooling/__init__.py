"""Token graph -> one vector per sentence: GNN layers, readout and the poolers built from them."""

from glot_jax.pooling.gnn import GNN_LAYERS, TokenGNN
from glot_jax.pooling.poolers import (
    POOLERS,
    AdaPool,
    AdaPoolAttention,
    Cls,
    First,
    Glot,
    Last,
    Max,
    Mean,
    Mlp,
    Pooler,
    count_parameters,
)
from glot_jax.pooling.readout import AttentionReadout

__all__ = [
    "GNN_LAYERS",
    "POOLERS",
    "AdaPool",
    "AdaPoolAttention",
    "AttentionReadout",
    "Cls",
    "First",
    "Glot",
    "Last",
    "Max",
    "Mean",
    "Mlp",
    "Pooler",
    "TokenGNN",
    "count_parameters",
]

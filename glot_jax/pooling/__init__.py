"""Token graph -> one vector per sentence: GNN layers, readout and the poolers built from them.

`POOLERS` and `GNN_LAYERS` list what has a name; both can be registered to from outside.
"""

from glot_jax.pooling.adapool import AdaPool, AdaPoolAttention
from glot_jax.pooling.glot import Glot, Mlp
from glot_jax.pooling.latent_attention import LatentAttention
from glot_jax.pooling.layers import GNN_LAYERS, GNNLayer, LayerOptions
from glot_jax.pooling.options import unread_options
from glot_jax.pooling.parameters import count_parameters
from glot_jax.pooling.pma import PMA
from glot_jax.pooling.pooler import POOLERS, Pooler
from glot_jax.pooling.poolers import Cls, First, Last, Max, Mean, MeanSqrtLen, WeightedMean
from glot_jax.pooling.readout import AttentionReadout
from glot_jax.pooling.token_gnn import GNNDesign, TokenGNN

__all__ = [
    "GNN_LAYERS",
    "PMA",
    "POOLERS",
    "AdaPool",
    "AdaPoolAttention",
    "AttentionReadout",
    "Cls",
    "First",
    "GNNDesign",
    "GNNLayer",
    "Glot",
    "Last",
    "LatentAttention",
    "LayerOptions",
    "Max",
    "Mean",
    "MeanSqrtLen",
    "Mlp",
    "Pooler",
    "TokenGNN",
    "WeightedMean",
    "count_parameters",
    "unread_options",
]

"""Token graph -> one vector per sentence: GNN layers, readout and the poolers built from them."""

from glot_jax.pooling.gnn import GNN_LAYERS, TokenGNN
from glot_jax.pooling.poolers import POOLERS, AdaPool, Cls, Glot, Max, Mean, Pooler
from glot_jax.pooling.readout import AttentionReadout

__all__ = ["GNN_LAYERS", "POOLERS", "AdaPool", "AttentionReadout", "Cls", "Glot", "Max", "Mean", "Pooler", "TokenGNN"]

"""How our arrays are called and laid out in the authors' released module.

Names on the left of the tables are ours. Those on the right are of PyTorch Geometric inside the
released pooling module: `convs.<k>.` before a layer's own names, `score_layer.0` and
`score_layer.2` for the readout. Linear weights are [out, in] there and [in, out] here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


def _reshaped(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.reshape(shape)


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


class ReleasedName(NamedTuple):
    """An array's name in the released module, and the way there and back."""

    official: str
    to_ours: Callable[[np.ndarray, Shape], np.ndarray] = _reshaped
    """(array, shape of ours) -> our layout."""
    to_theirs: Callable[[np.ndarray], np.ndarray] = _as_it_is


def _weight(official: str) -> ReleasedName:
    """A linear map, transposed there."""

    # The shape follows from the array: a transpose needs no other.
    def transposed(array: np.ndarray, _shape: Shape) -> np.ndarray:
        return array.T

    def back(array: np.ndarray) -> np.ndarray:
        return array.T

    return ReleasedName(official, transposed, back)


def _shaped(official: str, *shape: int) -> ReleasedName:
    """An array of this shape there, of which one size may be -1."""

    def shaped(array: np.ndarray) -> np.ndarray:
        return array.reshape(shape)

    return ReleasedName(official, to_theirs=shaped)


def _attention(official: str) -> ReleasedName:
    """A vector for each head, with one more axis there."""

    def with_axis(array: np.ndarray) -> np.ndarray:
        return array[None]

    return ReleasedName(official, to_theirs=with_axis)


def _counter(official: str) -> ReleasedName:
    """A number of batches, int64 there."""

    def widened(array: np.ndarray) -> np.ndarray:
        return array.astype(np.int64)

    return ReleasedName(official, to_theirs=widened)


# The two linear maps and BatchNorm of its MLP, by PyTorch Geometric's numbers for them.
_GIN = {
    "epsilon": ReleasedName("eps"),
    "kernel": _weight("nn.lins.0.weight"),
    "bias": ReleasedName("nn.lins.0.bias"),
    "out_kernel": _weight("nn.lins.1.weight"),
    "out_bias": ReleasedName("nn.lins.1.bias"),
    "norm.scale": ReleasedName("nn.norms.0.module.weight"),
    "norm.bias": ReleasedName("nn.norms.0.module.bias"),
    "norm.mean": ReleasedName("nn.norms.0.module.running_mean"),
    "norm.var": ReleasedName("nn.norms.0.module.running_var"),
    # Counts batches of training; PyTorch keeps it as an integer of 64 bits.
    "norm.batches": _counter("nn.norms.0.module.num_batches_tracked"),
}
LAYERS: dict[str, dict[str, ReleasedName]] = {
    "gat": {
        "kernel": _weight("lin.weight"),
        "source": _attention("att_src"),
        "target": _attention("att_dst"),
        # Edge attributes of the release have one entry, so the map of them has one column.
        "edge": _attention("att_edge"),
        "edge_kernel": _shaped("lin_edge.weight", -1, 1),
        "bias": ReleasedName("bias"),
    },
    "gcn": {
        "kernel": _weight("lin.weight"),
        "bias": ReleasedName("bias"),
    },
    "gin": _GIN,
    "gine": {
        **_GIN,
        "edge_kernel": _shaped("lin.weight", -1, 1),
        "edge_bias": ReleasedName("lin.bias"),
    },
    "sage": {
        # l is the neighbours' map, which has the bias; r is the token's own, which has none.
        "mean_kernel": _weight("lin_l.weight"),
        "bias": ReleasedName("lin_l.bias"),
        "root_kernel": _weight("lin_r.weight"),
    },
}
"""GNN type -> our name -> theirs."""

# score_layer is a Sequential of a linear map, a tanh (1, without arrays) and a linear map.
READOUT = {
    "kernel": _weight("score_layer.0.weight"),
    "bias": ReleasedName("score_layer.0.bias"),
    "vector": _shaped("score_layer.2.weight", 1, -1),
    # One entry there, a scalar here.
    "vector_bias": _shaped("score_layer.2.bias", 1),
}

BUFFERS = {"epsilon", "norm.mean", "norm.var", "norm.batches"}
"""Arrays without a gradient."""

EDGE_TERM = {"edge", "edge_kernel"}
"""Arrays of a GAT's edge term, which the release always has and a Glot may lack."""


def released_names(gnn: str, depth: int) -> dict[str, tuple[str, ReleasedName]]:
    """Official key -> (our dotted path, layout) of a module of `depth` layers."""
    names: dict[str, tuple[str, ReleasedName]] = {}
    for ours, name in READOUT.items():
        names[name.official] = (f"readout.{ours}", name)
    for k in range(depth):
        for ours, name in LAYERS[gnn].items():
            official = f"convs.{k}.{name.official}"
            names[official] = (f"gnn.layers.{k}.{ours}", name)
    return names


def type_of_layers(names: set[str]) -> str | None:
    """The GNN type whose layers have arrays of these (our) names; None if none has.

    A gradient lacks the buffers, and a GAT perhaps the edge term.
    """
    for gnn, layer in LAYERS.items():
        complete = set(layer)
        # gine has all that gin has: the edge's kernel, which is no buffer, tells them apart.
        if complete - BUFFERS <= names <= complete:
            return gnn
        if gnn == "gat" and names == complete - EDGE_TERM:
            return gnn
    return None


def first_weight(gnn: str) -> str:
    """Official name of a layer's weight [hidden, dim] within the layer."""
    layer: Mapping[str, ReleasedName] = LAYERS[gnn]
    # SAGE has one for the token itself and one for its neighbours, of equal shapes.
    if gnn == "sage":
        return layer["root_kernel"].official
    return layer["kernel"].official

"""The table of names: complete, one to one, and enough to tell the types of layers apart."""

from __future__ import annotations

import pytest
from flax import nnx

from glot_jax.official.released_names import (
    BUFFERS,
    EDGE_TERM,
    LAYERS,
    READOUT,
    released_names,
    type_of_layers,
)
from glot_jax.pooling import Glot
from glot_jax.run_folders.tree_paths import tree_paths


@pytest.mark.parametrize("gnn", LAYERS)
def test_every_array_of_a_glot_has_one_released_name(gnn):
    model = Glot(6, 8, 2, gnn=gnn, edge_term=gnn == "gat", rngs=nnx.Rngs(0))
    names = released_names(gnn, 2)
    paths = [path for path, _ in names.values()]
    assert sorted(paths) == sorted(tree_paths(nnx.state(model), "."))
    assert len(names) == 2 * len(LAYERS[gnn]) + len(READOUT)


@pytest.mark.parametrize("gnn", LAYERS)
def test_the_names_of_a_layer_tell_its_type(gnn):
    complete = set(LAYERS[gnn])
    assert type_of_layers(complete) == gnn
    # A gradient has no buffers.
    assert type_of_layers(complete - BUFFERS) == gnn


def test_a_gat_may_lack_the_edge_term_and_nothing_else():
    complete = set(LAYERS["gat"])
    assert type_of_layers(complete - EDGE_TERM) == "gat"
    assert type_of_layers(complete - {"edge"}) is None
    assert type_of_layers(set()) is None

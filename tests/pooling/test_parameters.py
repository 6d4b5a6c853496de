"""Trained numbers are counted from the tree."""

from __future__ import annotations

from flax import nnx

from glot_jax.pooling import GNN_LAYERS, Mean, count_parameters


def test_buffers_and_poolers_without_parameters_count_nothing():
    assert count_parameters(None) == 0
    assert count_parameters(Mean(8)) == 0
    # Two kernels, two biases, scale and bias of the norm; not its running statistics, nor epsilon.
    layer = GNN_LAYERS["gin"](6, 4, rngs=nnx.Rngs(0))
    assert count_parameters(layer) == 6 * 4 + 4 + 4 * 4 + 4 + 2 * 4


def test_shapes_are_counted_without_their_numbers():
    shapes = nnx.eval_shape(lambda: GNN_LAYERS["gcn"](6, 4, rngs=nnx.Rngs(0)))
    assert count_parameters(shapes) == 6 * 4 + 4

"""GAT against torch_geometric's GATConv on random graphs: values and gradients, isolated nodes and loops included."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import GATConv

from glot_jax.graphs.dense import DenseGraph
from glot_jax.pooling.gnn import GAT

DIM, HIDDEN = 6, 8


@st.composite
def graphs(draw):
    """(adjacency [n, n] bool, states [n, dim]); density from none to all, loops where they fall."""
    nodes = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.1, 0.4, 1.0]))
    return rng.random((nodes, nodes)) < density, rng.normal(size=(nodes, DIM)).astype(np.float32)


def reference(conv: GATConv, adjacency: np.ndarray, states: np.ndarray, edge_term: bool, cotangent: np.ndarray):
    receivers, senders = np.nonzero(adjacency)
    edges = torch.tensor(np.stack([senders, receivers]), dtype=torch.long)
    inputs = torch.tensor(states, requires_grad=True)
    attributes = torch.ones(edges.shape[1], 1) if edge_term else None
    conv.zero_grad()
    out = conv(inputs, edges, attributes)
    (out * torch.tensor(cotangent)).sum().backward()
    return out.detach().numpy(), inputs.grad.numpy(), {name: p.grad.numpy() for name, p in conv.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("edge_term", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_gat_is_gatconv(heads, edge_term):
    torch.manual_seed(0)
    conv = GATConv(DIM, HIDDEN // heads, heads=heads, edge_dim=1 if edge_term else None)
    torch.nn.init.normal_(conv.bias)
    layer = GAT(DIM, HIDDEN, heads=heads, edge_term=edge_term, rngs=nnx.Rngs(0))
    state = {name: p.detach().numpy() for name, p in conv.named_parameters()}
    layer.kernel[...] = jnp.asarray(state["lin.weight"].T)
    layer.source[...], layer.target[...] = jnp.asarray(state["att_src"][0]), jnp.asarray(state["att_dst"][0])
    layer.bias[...] = jnp.asarray(state["bias"])
    if edge_term:
        layer.edge[...] = jnp.asarray(state["att_edge"][0])
        layer.edge_kernel[...] = jnp.asarray(state["lin_edge.weight"].reshape(heads, -1))
    graphdef, params = nnx.split(layer, nnx.Param)

    # One padded shape, so that everything is compiled once; padding nodes must not matter either.
    @jax.jit
    def run(params, states, adjacency, mask, cotangent):
        def loss(params, states):
            graph = DenseGraph(states, mask, adjacency, jnp.zeros((), jnp.int32))
            out = nnx.merge(graphdef, params)(graph, states)
            return jnp.sum(out * cotangent), out

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, states)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(graphs())
    def check(graph):
        adjacency, states = graph
        nodes, room = len(states), 10
        cotangent = np.random.default_rng(nodes).normal(size=(nodes, HIDDEN)).astype(np.float32)
        # GATConv gives a self-loop the mean attribute of a node's other edges: 1, or 0 for a node without any. The
        # release passes edge attributes of 1, so an isolated node's own logit differs, and its softmax of one does not.
        expected, slope, slopes = reference(conv, adjacency, states, edge_term, cotangent)

        def padded(values, *shape):
            out = np.zeros(shape, values.dtype)
            out[tuple(slice(0, n) for n in values.shape)] = values
            return out[None]

        (gradient, to_states), out = run(
            params, padded(states, room, DIM), padded(adjacency, room, room), np.arange(room)[None] < nodes,
            padded(cotangent, room, HIDDEN),
        )
        np.testing.assert_allclose(out[0, :nodes], expected, atol=1e-5)
        np.testing.assert_allclose(to_states[0, :nodes], slope, atol=1e-4)
        for ours, theirs in [("kernel", "lin.weight"), ("source", "att_src"), ("target", "att_dst"), ("bias", "bias")]:
            value = np.asarray(gradient[ours][...])
            theirs_value = slopes[theirs].T if ours == "kernel" else slopes[theirs].reshape(value.shape)
            np.testing.assert_allclose(value, theirs_value, atol=1e-4, err_msg=ours)
        if edge_term:
            np.testing.assert_allclose(gradient["edge"][...], slopes["att_edge"][0], atol=1e-4)

    check()

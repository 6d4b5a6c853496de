"""Every GNN layer against torch_geometric's on random graphs.

Values and gradients, isolated nodes and loops included.
"""

from __future__ import annotations

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from support.typed import present
from torch_geometric.nn import MLP, GATConv, GCNConv, GINConv, GINEConv, SAGEConv

from glot_jax.graphs.dense import DenseGraph
from glot_jax.official.released_names import LAYERS
from glot_jax.pooling import GNN_LAYERS, LayerOptions

DIM, HIDDEN, ROOM = 6, 8, 10
CASES = {
    "gat-1": (
        "gat",
        {"heads": 1, "edge_term": True},
        lambda: GATConv(DIM, HIDDEN, heads=1, edge_dim=1),
    ),
    "gat-4": (
        "gat",
        {"heads": 4, "edge_term": True},
        lambda: GATConv(DIM, HIDDEN // 4, heads=4, edge_dim=1),
    ),
    "gat-1-plain": ("gat", {"heads": 1}, lambda: GATConv(DIM, HIDDEN, heads=1)),
    "gcn": ("gcn", {}, lambda: GCNConv(DIM, HIDDEN)),
    "gin": ("gin", {}, lambda: GINConv(MLP([DIM, HIDDEN, HIDDEN]))),
    "gine": ("gine", {}, lambda: GINEConv(MLP([DIM, HIDDEN, HIDDEN]), edge_dim=1)),
    "sage": ("sage", {}, lambda: SAGEConv(DIM, HIDDEN, aggr="mean", root_weight=True)),
}


@st.composite
def graphs(draw):
    """(adjacency [n, n] bool, states [n, dim]); density from none to all, loops where they fall."""
    nodes = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.0, 0.1, 0.4, 1.0]))
    return rng.random((nodes, nodes)) < density, rng.normal(size=(nodes, DIM)).astype(np.float32)


def run_reference(
    conv: torch.nn.Module,
    adjacency: np.ndarray,
    states: np.ndarray,
    attributes: bool,
    cotangent: np.ndarray,
):
    receivers, senders = np.nonzero(adjacency)
    edges = torch.tensor(np.stack([senders, receivers]), dtype=torch.long)
    inputs = torch.tensor(states, requires_grad=True)
    conv.zero_grad()
    out = conv(inputs, edges, torch.ones(edges.shape[1], 1)) if attributes else conv(inputs, edges)
    (out * torch.tensor(cotangent)).sum().backward()
    slopes = {name: p.grad.numpy() for name, p in conv.named_parameters() if p.grad is not None}
    return out.detach().numpy(), present(inputs.grad).numpy(), slopes


def make_pair(case: str):
    """The reference in evaluation mode, and our layer with the same parameters.

    Parameters and statistics are random.
    """
    name, options, make = CASES[case]
    torch.manual_seed(0)
    conv = make().eval()
    with torch.no_grad():
        for key, value in conv.state_dict().items():
            if value.is_floating_point() and key != "eps":
                value.normal_() if "running_var" not in key else value.uniform_(0.5, 2)
    layer = GNN_LAYERS[name](DIM, HIDDEN, LayerOptions(**options), rngs=nnx.Rngs(0))
    state = conv.state_dict()
    for ours, official in LAYERS[name].items():
        variable = operator.attrgetter(ours)(layer)
        if variable is not None:
            # A copy: PyTorch moves its running statistics where they lie.
            variable[...] = jnp.array(
                official.to_ours(state[official.official].numpy(), variable[...].shape)
            )
    return conv, layer


def padded(values: np.ndarray, *shape: int) -> np.ndarray:
    out = np.zeros(shape, values.dtype)
    out[tuple(slice(0, n) for n in values.shape)] = values
    return out[None]


@pytest.mark.parametrize("case", CASES)
def test_layer_is_that_of_pytorch_geometric(case):
    name, options, _ = CASES[case]
    conv, layer = make_pair(case)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    # One padded shape, so that everything is compiled once; padding nodes must not matter either.
    @jax.jit
    def run(params, states, adjacency, mask, cotangent):
        def loss(params, states):
            graph = DenseGraph(states, mask, adjacency, jnp.zeros((), jnp.int32))
            out = nnx.merge(graphdef, params, rest)(graph, states)
            return jnp.sum(out * cotangent), out

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, states)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(graphs())
    def check(graph):
        adjacency, states = graph
        nodes = len(states)
        cotangent = np.random.default_rng(nodes).normal(size=(nodes, HIDDEN)).astype(np.float32)
        attributes = name == "gine" or bool(options.get("edge_term"))
        expected, slope, slopes = run_reference(conv, adjacency, states, attributes, cotangent)
        (gradient, to_states), out = run(
            params,
            padded(states, ROOM, DIM),
            padded(adjacency, ROOM, ROOM),
            np.arange(ROOM)[None] < nodes,
            padded(cotangent, ROOM, HIDDEN),
        )
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(out[0, :nodes] / scale, expected / scale, atol=1e-5)
        largest = max(1.0, *(np.abs(value).max() for value in slopes.values()), np.abs(slope).max())
        np.testing.assert_allclose(to_states[0, :nodes] / largest, slope / largest, atol=1e-4)
        found = nnx.to_pure_dict(gradient)
        for ours, official in LAYERS[name].items():
            leaf = found
            for part in ours.split("."):
                leaf = leaf.get(part) if isinstance(leaf, dict) else None
            if leaf is not None:
                theirs = slopes.get(
                    official.official, np.zeros(official.to_theirs(np.asarray(leaf)).shape)
                )
                np.testing.assert_allclose(
                    official.to_theirs(np.asarray(leaf)) / largest,
                    theirs / largest,
                    atol=1e-4,
                    err_msg=ours,
                )

    check()


@pytest.mark.parametrize("name", ["gin", "gine"])
def test_batch_norm_trains_like_pytorch_over_real_tokens_only(name):
    conv, layer = make_pair(name)
    conv.train()
    rng = np.random.default_rng(0)
    states = rng.normal(size=(7, DIM)).astype(np.float32)
    adjacency = rng.random((7, 7)) < 0.4
    receivers, senders = np.nonzero(adjacency)
    edges = torch.tensor(np.stack([senders, receivers]), dtype=torch.long)
    arguments = (torch.ones(edges.shape[1], 1),) if name == "gine" else ()
    mask = np.arange(ROOM)[None] < 7
    hidden = padded(states, ROOM, DIM) + np.where(mask[..., None], 0, 9).astype(np.float32)
    graph = DenseGraph(
        jnp.asarray(hidden),
        jnp.asarray(mask),
        jnp.asarray(padded(adjacency, ROOM, ROOM)),
        jnp.zeros((), jnp.int32),
    )
    for _ in range(2):
        expected = conv(torch.tensor(states), edges, *arguments).detach().numpy()
        out = layer(graph, graph.nodes, train=True)
        np.testing.assert_allclose(out[0, :7], expected, atol=2e-5)
    state = conv.state_dict()
    for ours, theirs in [
        ("mean", "running_mean"),
        ("var", "running_var"),
        ("batches", "num_batches_tracked"),
    ]:
        np.testing.assert_allclose(
            operator.attrgetter(f"norm.{ours}")(layer)[...],
            state[f"nn.norms.0.module.{theirs}"].numpy(),
            atol=1e-5,
        )

"""The released module's outputs and gradients (tests/golden/README.md).

These numbers come from outside. They are never updated to what this code computes.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glot_jax.graphs import BACKENDS, token_graph
from glot_jax.pooling import Glot

GOLDEN = Path(__file__).parent.parent / "golden"


def names_of(layers: int) -> dict[tuple, tuple[str, object]]:
    """Path in our parameters -> (name in the file, how its array becomes ours)."""
    names: dict[tuple, tuple[str, object]] = {
        ("readout", "kernel"): ("score_layer.0.weight", np.transpose),
        ("readout", "bias"): ("score_layer.0.bias", np.asarray),
        ("readout", "vector"): ("score_layer.2.weight", lambda a: a[0]),
        ("readout", "vector_bias"): ("score_layer.2.bias", lambda a: a[0]),
    }
    for k in range(layers):
        layer = ("gnn", "layers", k)
        names |= {
            (*layer, "kernel"): (f"convs.{k}.lin.weight", np.transpose),
            (*layer, "source"): (f"convs.{k}.att_src", lambda a: a[0]),
            (*layer, "target"): (f"convs.{k}.att_dst", lambda a: a[0]),
            (*layer, "edge"): (f"convs.{k}.att_edge", lambda a: a[0]),
            (*layer, "edge_kernel"): (f"convs.{k}.lin_edge.weight", np.transpose),
            (*layer, "bias"): (f"convs.{k}.bias", np.asarray),
        }
    return names


def leaves(tree: dict) -> dict[tuple, jax.Array]:
    return {tuple(getattr(p, "key", getattr(p, "idx", None)) for p in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gat_cat_meets_the_released_module(backend, side):
    golden = np.load(GOLDEN / "gat_cat_k2.npz", allow_pickle=False)
    hidden, mask = golden["hidden"], golden["mask"]
    if side == "left":
        hidden, mask = hidden[:, ::-1], mask[:, ::-1]
        for row in range(len(hidden)):  # the same order of tokens, the padding in front of them
            hidden[row, mask[row]] = golden["hidden"][row, golden["mask"][row]]
    model = Glot(hidden.shape[-1], int(golden["hidden_dim"]), int(golden["num_layers"]), edge_term=True, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(model, nnx.Param)
    params = nnx.to_pure_dict(params)
    names = names_of(int(golden["num_layers"]))
    assert set(names) == set(leaves(params))
    assert {f"param/{name}" for name, _ in names.values()} == {key for key in golden.files if key.startswith("param/")}
    params = jax.tree.map_with_path(
        lambda path, leaf: jnp.asarray(
            names[tuple(getattr(p, "key", None) for p in path)][1](  # type: ignore[operator]
                golden["param/" + names[tuple(getattr(p, "key", None) for p in path)][0]]
            )
        ).reshape(leaf.shape),
        params,
    )
    graph = token_graph(hidden, mask, tau=float(golden["tau"]), backend=backend)

    def loss(params):
        pooled = nnx.merge(graphdef, params)(graph)
        return jnp.sum(pooled * golden["cotangent"]), pooled

    gradient, pooled = jax.grad(loss, has_aux=True)(params)
    assert np.abs(pooled - golden["pooled"]).max() <= 1e-5 * np.abs(golden["pooled"]).max()
    largest = max(np.abs(golden[key]).max() for key in golden.files if key.startswith("grad/"))
    for path, leaf in leaves(gradient).items():
        name, convert = names[path]
        expected = convert(golden[f"grad/{name}"])  # type: ignore[operator]
        assert np.abs(np.asarray(leaf) - expected.reshape(leaf.shape)).max() <= 1e-5 * largest, name

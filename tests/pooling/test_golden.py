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
from glot_jax.official.torch_checkpoint import load_official, to_official

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["gat_cat_k2", "gcn_max_k2", "gin_mean_k2"])
def test_outputs_and_gradients_are_those_of_the_released_module(name, backend, side):
    golden = np.load(GOLDEN / f"{name}.npz", allow_pickle=False)
    hidden, mask = golden["hidden"], golden["mask"]
    if side == "left":
        hidden, mask = np.full_like(hidden, 3.0), mask[:, ::-1]
        hidden[mask] = golden["hidden"][
            golden["mask"]
        ]  # the same tokens in the same order, behind the padding
    tau = float(golden["tau"])
    state = {
        key.removeprefix("param/"): golden[key] for key in golden.files if key.startswith("param/")
    }
    model = load_official(state, gnn=str(golden["conv"]), jk=str(golden["jk"]), tau=tau)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, hidden, mask):
        def loss(params):
            pooled = nnx.merge(graphdef, params, rest)(
                token_graph(hidden, mask, tau=tau, backend=backend)
            )
            return jnp.sum(pooled * golden["cotangent"]), pooled

        return jax.grad(loss, has_aux=True)(params)

    gradient, pooled = run(params, hidden, mask)
    assert np.abs(pooled - golden["pooled"]).max() <= 1e-5 * np.abs(golden["pooled"]).max()
    expected = {
        key.removeprefix("grad/"): golden[key] for key in golden.files if key.startswith("grad/")
    }
    found = to_official(gradient)
    assert set(found) == set(expected)
    largest = max(np.abs(value).max() for value in expected.values())
    for key, value in expected.items():
        assert np.abs(found[key] - value).max() <= 1e-5 * largest, key

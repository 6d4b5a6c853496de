"""PMA against its formula, token by token in float64, and against PyTorch Geometric's module."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from support.pooled import DIM, assert_formula, layer_norm, parameters, randomised, softmax
from support.token_states import pad, sentences
from support.typed import present

from glot_jax.errors import UsageError
from glot_jax.graphs import BACKENDS, token_graph
from glot_jax.pooling import PMA


def pma(states: np.ndarray, weights: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """Keys and values of every token written out."""
    answers = np.maximum(states @ weights["token_kernel"] + weights["token_bias"], 0)
    queries = weights["seeds"] @ weights["query"] + weights["query_bias"]
    keys = answers @ weights["key"]
    values = answers @ weights["value"] + weights["value_bias"]
    width = DIM // heads
    rows = []
    for seed, query in zip(weights["seeds"], queries, strict=True):
        parts = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            share = softmax(keys[:, cut] @ query[cut] / np.sqrt(width))
            parts.append(share @ values[:, cut])
        attended = np.concatenate(parts) @ weights["out"] + weights["out_bias"]
        hidden = layer_norm(seed + attended, weights, "attention_norm")
        refined = np.maximum(hidden @ weights["hidden_kernel"] + weights["hidden_bias"], 0)
        rows.append(layer_norm(hidden + refined, weights, "out_norm"))
    return np.concatenate(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("heads", "seeds"), [(1, 1), (3, 2), (12, 1)])
def test_pma_is_its_formula(heads, seeds, backend):
    pooler = randomised(PMA(DIM, heads, seeds, rngs=nnx.Rngs(0)))
    weights = parameters(pooler)
    assert_formula(pooler, backend, lambda states: pma(states, weights, heads))


def test_pma_is_pytorch_geometrics_module():
    torch = pytest.importorskip("torch")
    aggr = pytest.importorskip("torch_geometric.nn.aggr.utils")
    torch.manual_seed(0)
    reference = aggr.PoolingByMultiheadAttention(DIM, num_seed_points=2, heads=3).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(std=0.5)
    state = {name: value.numpy() for name, value in reference.state_dict().items()}
    pooler = PMA(DIM, heads=3, seeds=2, rngs=nnx.Rngs(0))
    query, key, value = np.split(state["mab.attn.in_proj_weight"], 3)
    query_bias, _, value_bias = np.split(state["mab.attn.in_proj_bias"], 3)
    pooler.seeds[...] = state["seed"][0]
    pooler.token_kernel[...] = state["lin.weight"].T
    pooler.token_bias[...] = state["lin.bias"]
    pooler.query[...] = query.T
    pooler.query_bias[...] = query_bias
    pooler.key[...] = key.T
    pooler.value[...] = value.T
    pooler.value_bias[...] = value_bias
    pooler.out[...] = state["mab.attn.out_proj.weight"].T
    pooler.out_bias[...] = state["mab.attn.out_proj.bias"]
    present(pooler.attention_norm.scale)[...] = state["mab.layer_norm1.weight"]
    present(pooler.attention_norm.bias)[...] = state["mab.layer_norm1.bias"]
    pooler.hidden_kernel[...] = state["mab.lin.weight"].T
    pooler.hidden_bias[...] = state["mab.lin.bias"]
    present(pooler.out_norm.scale)[...] = state["mab.layer_norm2.weight"]
    present(pooler.out_norm.bias)[...] = state["mab.layer_norm2.bias"]
    hidden, mask = pad(sentences([5, 1, 7], DIM), 9, "left")
    with torch.no_grad():
        expected = reference(torch.from_numpy(hidden), torch.from_numpy(mask)).flatten(1)
    pooled = jax.jit(lambda hidden: pooler(token_graph(hidden, mask)))(hidden)
    np.testing.assert_allclose(pooled, expected.numpy(), atol=2e-5)


def test_heads_that_do_not_divide_the_states_are_refused():
    with pytest.raises(UsageError, match="must divide the width of the states; got 5 heads"):
        PMA(DIM, 5, rngs=nnx.Rngs(0))

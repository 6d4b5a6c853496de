"""The release's checkpoints: there and back without loss, and every wrong key named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flax import nnx
from support.typed import of_kind

from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph
from glot_jax.official.released_names import LAYERS
from glot_jax.official.torch_checkpoint import load_official, to_official
from glot_jax.pooling import AdaPoolAttention, Glot, Mean, Mlp
from glot_jax.pooling.layers import GAT


def official(conv: str, jk: str = "cat", layers: int = 2, heads: int = 1) -> dict[str, np.ndarray]:
    """A state_dict of random numbers, under the released names."""
    model = Glot(
        6,
        8,
        layers,
        gnn=conv,
        jk=jk,
        heads=heads,
        edge_term=conv == "gat",
        scorer_dim=5,
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(0)
    state = {
        name: rng.normal(size=array.shape).astype(array.dtype)
        for name, array in to_official(model).items()
    }
    return {
        name: np.asarray(7, np.int64) if name.endswith("num_batches_tracked") else array
        for name, array in state.items()
    }


@pytest.mark.parametrize("jk", ["cat", "max", "mean", "none"])
@pytest.mark.parametrize("conv", LAYERS)
def test_the_round_trip_is_exact(conv, jk):
    state = official(conv, jk)
    again = to_official(load_official(state, gnn=conv, jk=jk, tau=0.6))
    assert set(again) == set(state)
    for name, array in state.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
        assert again[name].dtype == array.dtype


def test_sizes_heads_and_depth_are_read_from_the_shapes(tmp_path):
    state = official("gat", layers=3, heads=4)
    torch.save({name: torch.tensor(array) for name, array in state.items()}, tmp_path / "glot.pth")
    model = load_official(tmp_path / "glot.pth", gnn="gat", jk="cat", tau=0.3)
    assert model.pooled_dim == 6 + 3 * 8
    assert of_kind(model.gnn.layers[0], GAT).heads == 4
    assert model.tau == 0.3
    np.testing.assert_array_equal(to_official(model)["convs.2.att_src"], state["convs.2.att_src"])
    alone = official("gcn", layers=0)
    assert set(alone) == {
        "score_layer.0.weight",
        "score_layer.0.bias",
        "score_layer.2.weight",
        "score_layer.2.bias",
    }
    assert load_official(alone, gnn="gcn", jk="cat", tau=0.3).pooled_dim == 6


@pytest.mark.parametrize(
    ("change", "conv", "jk", "message"),
    [
        (lambda s: s.pop("convs.1.bias"), "gat", "cat", "missing: convs.1.bias"),
        (lambda s: s.update(extra=np.ones(1)), "gat", "cat", "unexpected: extra"),
        (
            lambda s: s.update({"convs.1.bias": np.ones(3, np.float32)}),
            "gat",
            "cat",
            r"convs.1.bias must have the shape \(8,\); got \(3,\)",
        ),
        (lambda _s: None, "gcn", "cat", "unexpected: convs.0.att_dst"),
        (lambda _s: None, "gat", "max", "must take tokens of width 8; got 22"),
        (lambda _s: None, "gta", "cat", "unknown GNN layer"),
    ],
)
def test_a_key_that_does_not_fit_is_named(change, conv, jk, message):
    state = official("gat")
    change(state)
    with pytest.raises(UsageError, match=message):
        load_official(state, gnn=conv, jk=jk, tau=0.6)


def test_a_gat_without_edge_term_gets_one_that_changes_nothing():
    ours = Glot(6, 8, 2, heads=2, rngs=nnx.Rngs(0))
    state = to_official(ours)
    assert np.all(state["convs.0.att_edge"] == 0)
    again = load_official(state, gnn="gat", jk="cat", tau=0.6)
    graph = token_graph(
        np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32),
        np.ones((2, 5), bool),
        tau=0.1,
    )
    assert np.array_equal(ours(graph), again(graph))


@pytest.mark.parametrize(
    "other",
    [
        lambda: Glot(6, 8, residual=True, rngs=nnx.Rngs(0)),
        lambda: Glot(6, 8, virtual_node=True, rngs=nnx.Rngs(0)),
        lambda: Mean(6),
        lambda: AdaPoolAttention(6, rngs=nnx.Rngs(0)),
        lambda: Mlp(6, 8, rngs=nnx.Rngs(0)),
        lambda: {"pooler": nnx.to_pure_dict(nnx.state(Glot(6, 8, rngs=nnx.Rngs(0))))},
        dict,
    ],
)
def test_what_the_released_module_has_no_name_for_is_refused(other):
    with pytest.raises(UsageError, match="released module"):
        to_official(other())


def test_parameters_and_other_floats_are_taken():
    state = official("gat")
    for convert in (
        lambda a: torch.nn.Parameter(torch.tensor(a)),
        lambda a: torch.tensor(a).bfloat16(),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.float16),
    ):
        model = load_official(
            {name: convert(array) for name, array in state.items()}, gnn="gat", jk="cat", tau=0.6
        )
        found = to_official(model)
        for name, array in state.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], array, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("value", [1.5, "x", [[1.0], [1.0, 2.0]], np.ones(8, np.complex64)])
def test_a_value_that_is_no_weight_is_refused(value):
    state: dict = official("gat")
    state["convs.1.bias"] = value
    with pytest.raises(UsageError, match=r"convs.1.bias"):
        load_official(state, gnn="gat", jk="cat", tau=0.6)
    with pytest.raises(UsageError, match="the keys of a state_dict must be names; got 3"):
        load_official({3: np.ones(1)}, gnn="gat", jk="cat", tau=0.6)  # type: ignore[dict-item]


def test_a_file_that_holds_code_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(UsageError, match="a .pth file must hold a state_dict of tensors"):
        load_official(tmp_path / "bomb.pth", gnn="gat", jk="cat", tau=0.6)
    (tmp_path / "noise.pth").write_bytes(b"\x00\x01noise")
    with pytest.raises(UsageError, match="must hold a state_dict"):
        load_official(tmp_path / "noise.pth", gnn="gat", jk="cat", tau=0.6)

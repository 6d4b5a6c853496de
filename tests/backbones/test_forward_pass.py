"""How far a text's states depend on its company in a forward pass."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from rich.console import Console
from support.extraction_case import load_backbone, make_case, run, tree
from support.tiny_backbones import CORPUS, MODEL_TYPES, make_backbone

from glot_jax.backbones.forward_pass import ForwardPass
from glot_jax.errors import UsageError
from glot_jax.extraction import dump
from glot_jax.store import HiddenStore

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05, "float16": 0.01}
"""Largest difference that other texts in the pass make, as a share of the largest state.

In docs/concepts/stores.md.
"""


@pytest.mark.parametrize("compute_dtype", list(TOLERANCE))
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_company_changes_a_state_within_the_tolerance_of_its_dtype(
    folders, compute_dtype, model_type, side
):
    backbone = load_backbone(folders[model_type], compute_dtype=compute_dtype, padding_side=side)
    ids = backbone.tokenize(CORPUS).ids
    alone = np.concatenate([backbone.states([text]).layers[2] for text in ids])
    together = backbone.states(ids).layers[2]
    assert np.abs(alone - together).max() <= TOLERANCE[compute_dtype] * np.abs(alone).max()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_deterministic_states_do_not_depend_on_company_at_all(folders, model_type):
    backbone = load_backbone(folders[model_type], deterministic=True, compute_dtype="bfloat16")
    ids = backbone.tokenize(CORPUS).ids
    alone = [backbone.states([text]).layers[2] for text in ids]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0]):
        np.testing.assert_array_equal(
            backbone.states([ids[text] for text in order]).layers[2],
            np.concatenate([alone[text] for text in order]),
        )
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    "change", [{"tokens_per_batch": 7}, {"tokens_per_batch": 10_000}, {"padding_side": "left"}]
)
def test_deterministic_stores_are_equal_byte_for_byte(tmp_path, change):
    config = make_case(tmp_path, {"train": 14}, deterministic=True, storage_dtype="float32")
    run(config)
    run(dataclasses.replace(config, out=tmp_path / "other", **change))
    assert tree(config.out) == tree(tmp_path / "other")


def test_deterministic_is_part_of_the_recipe(tmp_path):
    config = make_case(tmp_path, {"train": 5})
    dump(config, console=Console(file=io.StringIO()))
    assert "deterministic" not in HiddenStore(config.out).recipe.to_json()
    with pytest.raises(UsageError, match="deterministic: None -> True"):
        run(dataclasses.replace(config, deterministic=True))


def test_padding_stands_on_the_side_that_was_asked_for():
    forward = ForwardPass(torch.nn.Identity(), torch.device("cpu"), 99, deterministic=False)
    flat = np.array([1, 2, 3, 4], np.int64)
    lengths = np.array([1, 3])
    ids, mask = forward.pad(flat, lengths, left=False)
    assert ids.tolist() == [[1, 99, 99], [2, 3, 4]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    ids, mask = forward.pad(flat, lengths, left=True)
    assert ids.tolist() == [[99, 99, 1], [2, 3, 4]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]


def ran(backbone, ids) -> int:
    """Blocks that a pass over some texts runs."""
    blocks = backbone.probe.layers.verified_blocks
    calls = []
    handles = [
        module.register_forward_pre_hook(lambda module, _args: calls.append(module))
        for module in dict.fromkeys(blocks.modules)
    ]
    backbone.states(ids)
    for handle in handles:
        handle.remove()
    return len(calls)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_pass_is_no_deeper_than_needed_and_gives_the_same_states(tmp_path, model_type):
    deep = make_backbone(model_type, tmp_path / "deep", num_layers=4)
    every = load_backbone(deep, layers=(0, 1, 2, 3, 4))
    ids = every.tokenize(CORPUS).ids
    full = every.states(ids).layers
    for layers, blocks in (((2,), 2), ((0, 3), 3), ((0,), 1), ((4,), 4), ((1, 4), 4)):
        backbone = load_backbone(deep, layers=layers)
        assert ran(backbone, ids) == blocks
        states = backbone.states(ids).layers
        for layer in layers:
            np.testing.assert_array_equal(states[layer], full[layer])

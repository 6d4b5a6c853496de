"""Weights that are not those which config.json describes are refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.extraction_case import change_json, load_backbone
from support.tiny_backbones import (
    make_backbone,
)

from glot_jax.errors import UsageError


def test_weights_of_other_shapes_are_named(bert_copy):
    change_json(bert_copy / "config.json", intermediate_size=80)
    with pytest.raises(
        UsageError,
        match=r"intermediate\.dense\.(weight|bias) is \(64.*in the file and \(80.*config\.json",
    ):
        load_backbone(bert_copy)


def test_a_pooler_may_be_missing_and_a_block_may_not(bert_copy):
    weights = load_file(bert_copy / "model.safetensors")
    kept = {
        name: array.clone() for name, array in weights.items() if not name.startswith("pooler.")
    }
    save_file(kept, bert_copy / "model.safetensors", metadata={"format": "pt"})
    load_backbone(bert_copy)
    del kept["encoder.layer.1.output.dense.weight"]
    save_file(kept, bert_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"every weight.*encoder\.layer\.1\.output\.dense\.weight"):
        load_backbone(bert_copy)


def test_a_config_with_fewer_blocks_than_the_file_is_refused(bert_copy):
    change_json(bert_copy / "config.json", num_hidden_layers=1)
    with pytest.raises(
        UsageError,
        match=r"every block.*encoder\.layer\.1\..*1 blocks in encoder\.layer by config\.json",
    ):
        load_backbone(bert_copy)


def test_quantised_weights_that_nobody_unpacks_are_refused(bert_copy):
    weights = load_file(bert_copy / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    whole = weights[name].clone()
    scale = whole.abs().max() / 127
    weights[name] = (whole / scale).round().to(torch.int8)
    save_file(weights, bert_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UsageError, match=r"quantised weights must come with a quantization_config.*arrays of I8"
    ):
        load_backbone(bert_copy)
    weights[name] = whole
    weights[f"{name}_scale"] = scale.reshape(1)
    save_file(weights, bert_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"scales such as .*query\.weight_scale"):
        load_backbone(bert_copy)


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path):
    folder = make_backbone("bert", tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UsageError, match=r"every weight.*encoder\.layer\.2"):
        load_backbone(folder)

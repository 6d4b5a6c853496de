"""What other libraries' loaders raise is one message with file, reason and fix."""

from __future__ import annotations

import json

import pytest
from support.extraction_case import change_json, load_backbone

from glot_jax.errors import UsageError


def test_a_tokenizer_of_another_version_is_named(bert_copy):
    values = json.loads((bert_copy / "tokenizer.json").read_text())
    values["model"] = {"type": "Unheard", "vocab": 3}
    (bert_copy / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(
        UsageError, match=r"must come with its tokenizer.*tokenizer\.json: .*upgrade tokenizers"
    ):
        load_backbone(bert_copy)


def test_a_number_of_the_wrong_type_is_named_with_what_to_write(bert_copy):
    change_json(bert_copy / "config.json", layer_norm_eps="tiny")
    with pytest.raises(
        UsageError, match=r"config\.json: layer_norm_eps = 'tiny', str instead of float"
    ):
        load_backbone(bert_copy)
    change_json(bert_copy / "config.json", layer_norm_eps=1)
    with pytest.raises(
        UsageError, match=r"layer_norm_eps = 1, int instead of float\. Write 1\.0 instead of 1"
    ):
        load_backbone(bert_copy)


def test_damaged_weights_are_named(bert_copy):
    data = (bert_copy / "model.safetensors").read_bytes()
    for damaged in (b"", data[:100], b"\xff" * 8 + data[8:], data[:-4000]):
        (bert_copy / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"model\.safetensors: .*Download the file again"):
            load_backbone(bert_copy)


def test_a_type_that_transformers_does_not_know_is_named(bert_copy):
    change_json(bert_copy / "config.json", model_type="brand_new")
    with pytest.raises(
        UsageError, match="of the type brand_new, which this transformers does not know"
    ):
        load_backbone(bert_copy)


def test_the_package_of_a_quantisation_is_named(bert_copy):
    # Not "check the folder's files": they are as they should be.
    quantisation = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    change_json(bert_copy / "config.json", quantization_config=quantisation)
    with pytest.raises(
        UsageError, match=r"quantised by bitsandbytes: .*bitsandbytes.*Install that package"
    ):
        load_backbone(bert_copy)

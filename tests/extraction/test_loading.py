"""What other libraries' loaders raise is one message with file, reason and fix; the right part of a
model is loaded.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.tiny_backbones import byte_level, make_backbone

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone


def load(folder, **options):
    return Backbone(
        ExtractConfig(
            backbone=str(folder), task="custom", out=Path("unused"), device="cpu", **options
        )
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_backbone("bert", tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture
def copy(bert, tmp_path):
    return Path(shutil.copytree(bert, tmp_path / "bert"))


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_tokenizer_of_another_version_is_named(copy):
    values = json.loads((copy / "tokenizer.json").read_text())
    values["model"] = {"type": "Unheard", "vocab": 3}
    (copy / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(
        UsageError, match=r"must come with its tokenizer.*tokenizer\.json: .*upgrade tokenizers"
    ):
        load(copy)


def test_a_number_of_the_wrong_type_is_named_with_what_to_write(copy):
    change(copy / "config.json", layer_norm_eps="tiny")
    with pytest.raises(
        UsageError, match=r"config\.json: layer_norm_eps = 'tiny', str instead of float"
    ):
        load(copy)
    change(copy / "config.json", layer_norm_eps=1)
    with pytest.raises(
        UsageError, match=r"layer_norm_eps = 1, int instead of float\. Write 1\.0 instead of 1"
    ):
        load(copy)


def test_damaged_weights_are_named(copy):
    data = (copy / "model.safetensors").read_bytes()
    for damaged in (b"", data[:100], b"\xff" * 8 + data[8:], data[:-4000]):
        (copy / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"model\.safetensors: .*Download the file again"):
            load(copy)


def test_weights_of_other_shapes_are_named(copy):
    change(copy / "config.json", intermediate_size=80)
    with pytest.raises(
        UsageError,
        match=r"intermediate\.dense\.(weight|bias) is \(64.*in the file and \(80.*config\.json",
    ):
        load(copy)


def test_a_type_that_transformers_does_not_know_is_named(copy):
    change(copy / "config.json", model_type="brand_new")
    with pytest.raises(
        UsageError, match="of the type brand_new, which this transformers does not know"
    ):
        load(copy)


def test_a_pooler_may_be_missing_and_a_block_may_not(copy):
    weights = load_file(copy / "model.safetensors")
    kept = {
        name: array.clone() for name, array in weights.items() if not name.startswith("pooler.")
    }
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    load(copy)
    del kept["encoder.layer.1.output.dense.weight"]
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"every weight.*encoder\.layer\.1\.output\.dense\.weight"):
        load(copy)


def test_code_of_the_models_own_is_said_not_to_run(copy, tmp_path):
    ran = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
    (copy / "modeling_own.py").write_text(code)
    change(copy / "config.json", auto_map={"AutoModel": "modeling_own.OwnModel"})
    change(
        copy / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["modeling_own.OwnTokenizer", None]},
    )
    lines = "\n".join(load(copy).notices())
    assert (
        "config.json names code of the model's own (modeling_own.OwnModel), which is not run"
        in lines
    )
    assert "tokenizer_config.json names code of the model's own" in lines
    assert not ran.exists()


# --------------------------------------------------------------------------------------------------
# Encoder-decoders


def save(config, folder, *, encoder_only=False):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    if encoder_only:
        model = transformers.AutoModelForTextEncoding.from_config(config)
    model.save_pretrained(folder)
    byte_level("llama").save_pretrained(folder)
    return model.eval()


T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 320,
    "pad_token_id": 1,
}


@pytest.mark.parametrize("encoder_only", [True, False])
@pytest.mark.parametrize("kind", ["T5Config", "MT5Config", "UMT5Config"])
def test_the_encoders_of_t5_and_its_kin_run_with_and_without_a_decoder(
    tmp_path, kind, encoder_only
):
    config = getattr(transformers, kind)(**T5)
    model = save(config, tmp_path / "t5", encoder_only=encoder_only)
    backbone = load(tmp_path / "t5")
    ids = backbone.tokenize(["the cat sat"]).ids
    with torch.no_grad():
        expected = model.get_encoder()(input_ids=torch.tensor(ids)).last_hidden_state[0].numpy()
    np.testing.assert_allclose(backbone.states(ids).layers[2], expected, atol=1e-5)
    assert backbone.kind == "encoder"


def test_of_an_encoder_decoder_only_the_encoders_weights_must_be_there(tmp_path):
    config = transformers.BartConfig(
        vocab_size=320,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    save(config, tmp_path / "bart")
    path = tmp_path / "bart" / "model.safetensors"
    weights = load_file(path)
    kept = {
        name: array for name, array in weights.items() if not name.startswith("decoder.layers.1")
    }
    assert len(kept) < len(weights)
    save_file(kept, path, metadata={"format": "pt"})
    assert load(tmp_path / "bart").kind == "encoder"
    del kept["encoder.layers.1.fc1.weight"]
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"every weight.*encoder\.layers\.1\.fc1\.weight"):
        load(tmp_path / "bart")


# --------------------------------------------------------------------------------------------------
# Weights that are not what the config says


def test_a_config_with_fewer_blocks_than_the_file_is_refused(copy):
    change(copy / "config.json", num_hidden_layers=1)
    with pytest.raises(
        UsageError,
        match=r"every block.*encoder\.layer\.1\..*1 blocks in encoder\.layer by config\.json",
    ):
        load(copy)


def test_quantised_weights_that_nobody_unpacks_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    whole = weights[name].clone()
    scale = whole.abs().max() / 127
    weights[name] = (whole / scale).round().to(torch.int8)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UsageError, match=r"quantised weights must come with a quantization_config.*arrays of I8"
    ):
        load(copy)
    weights[name] = whole
    weights[f"{name}_scale"] = scale.reshape(1)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"scales such as .*query\.weight_scale"):
        load(copy)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "qwen2", "llama"])
def test_a_folder_without_a_vocabulary_is_refused(tmp_path, model_type):
    folder = make_backbone(model_type, tmp_path / model_type)
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    change(folder / "tokenizer_config.json", tokenizer_class=f"{model_type.capitalize()}Tokenizer")
    with pytest.raises(UsageError, match="must come with its tokenizer"):
        load(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UsageError, match="must come with its tokenizer"):
        load(folder)

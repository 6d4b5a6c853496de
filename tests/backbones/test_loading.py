"""What other libraries' loaders raise is one message with file, reason and fix.

And the right part of a model is loaded.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.extraction_case import change_json, load_backbone
from support.tiny_backbones import byte_level

from glot_jax.errors import UsageError


def test_code_of_the_models_own_is_said_not_to_run(bert_copy, tmp_path):
    ran = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
    (bert_copy / "modeling_own.py").write_text(code)
    change_json(bert_copy / "config.json", auto_map={"AutoModel": "modeling_own.OwnModel"})
    change_json(
        bert_copy / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["modeling_own.OwnTokenizer", None]},
    )
    lines = "\n".join(load_backbone(bert_copy).notices())
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
    backbone = load_backbone(tmp_path / "t5")
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
    assert load_backbone(tmp_path / "bart").kind == "encoder"
    del kept["encoder.layers.1.fc1.weight"]
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"every weight.*encoder\.layers\.1\.fc1\.weight"):
        load_backbone(tmp_path / "bart")


# --------------------------------------------------------------------------------------------------
# Weights that are not what the config says

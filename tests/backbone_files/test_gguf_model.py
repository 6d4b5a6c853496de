"""The plain model of a GGUF file is what transformers makes of that file."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

import gguf
import torch
import transformers
from support.tiny_gguf import write_gguf

from glot_jax.backbone_files.gguf_header import read_header
from glot_jax.backbone_files.gguf_model import write_plain_model
from glot_jax.errors import UsageError

KINDS = gguf.GGMLQuantizationType


def plain(file: Path, folder: Path) -> Path:
    folder.mkdir()
    write_plain_model(file, read_header(file), folder)
    return folder


@pytest.mark.parametrize("kind", [KINDS.F32, KINDS.F16, KINDS.Q8_0, KINDS.Q4_1])
def test_tokens_and_states_are_those_of_the_file(tmp_path, kind):
    file = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    folder = plain(file, tmp_path / "plain")
    with contextlib.redirect_stderr(io.StringIO()):
        theirs = transformers.AutoModel.from_pretrained(
            tmp_path, gguf_file=file.name, dtype=torch.float32
        )
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    ours = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("low lower newest", "widest, new.", "", "x y"):
        assert tokenizer(text)["input_ids"] == their_tokenizer(text)["input_ids"]
    ids = torch.tensor([tokenizer("low lower newest new widest")["input_ids"]])
    with torch.inference_mode():
        states = ours(ids, output_hidden_states=True).hidden_states
        expected = theirs.eval()(ids, output_hidden_states=True).hidden_states
    for one, other in zip(states, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_folder_is_a_plain_model_without_templates(tmp_path):
    folder = plain(write_gguf(tmp_path / "tiny.gguf"), tmp_path / "plain")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["model_type"] == "llama"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for path in folder.glob("*.json"):
        assert "raise_exception" not in path.read_text()


def test_what_cannot_be_read_is_named(tmp_path):
    cases = {
        "the architecture .* reads: .*llama.*got .*'mystery'": {"architecture": "mystery"},
        "hold every weight .*q_proj": {"leave_out": "blk.1.attn_q.weight"},
        "must be finite": {"scale": float("inf"), "kind": KINDS.F32},
    }
    for number, (message, options) in enumerate(cases.items()):
        file = write_gguf(tmp_path / f"{number}.gguf", **options)
        with pytest.raises(UsageError, match=message):
            plain(file, tmp_path / str(number))


def test_a_format_without_a_way_back_is_named(tmp_path, monkeypatch):
    file = write_gguf(tmp_path / "tiny.gguf")

    def refuse(data, kind):
        raise NotImplementedError(kind)

    monkeypatch.setattr(gguf, "dequantize", refuse)
    with pytest.raises(UsageError, match="with tensors in F32. Upgrade gguf"):
        plain(file, tmp_path / "plain")


def test_settings_that_ask_for_more_weights_are_refused_before_memory_is(tmp_path):
    # Each is allowed by the largest tensor, all of them together are not.
    file = write_gguf(tmp_path / "tiny.gguf", settings={"block_count": 20})
    with pytest.raises(UsageError, match="weights by its settings"):
        plain(file, tmp_path / "plain")

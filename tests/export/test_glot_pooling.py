"""The module of sentence-transformers: which layers it reads, and the head in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import DIM
from support.typed import present

from glot_jax.export import glot_pooling
from glot_jax.export.glot_pooling import GlotPooling
from glot_jax.export.model_card import CODE_FILES


def test_the_files_that_are_copied_are_named_alike():
    assert glot_pooling.FILES == CODE_FILES
    for name in CODE_FILES:
        assert Path(glot_pooling.__file__).with_name(name).is_file()


def test_layers_are_chosen_as_the_extraction_chooses_them():
    states = [torch.randn(2, 5, DIM) for _ in range(4)]
    features = {
        "token_embeddings": states[3] + 1,
        "all_layer_embeddings": tuple(states),
        "attention_mask": torch.ones(2, 5, dtype=torch.int64),
    }
    pooling = GlotPooling(DIM, layers=[0, 2, -1], pooler="mean")
    wanted = torch.stack([states[0], states[2], states[3] + 1]).mean((0, 2))  # equal weights
    torch.testing.assert_close(pooling(dict(features))["sentence_embedding"], wanted)
    torch.testing.assert_close(
        GlotPooling(DIM, layers=[1], pooler="mean")(dict(features))["sentence_embedding"],
        states[1].mean(1),
    )
    del features["all_layer_embeddings"]
    with pytest.raises(ValueError, match="output_hidden_states=True"):
        pooling(dict(features))
    del features["attention_mask"]
    with pytest.raises(ValueError, match="unpad_inputs=False"):
        pooling(dict(features))


def test_half_precision_leaves_the_head_as_it_is():
    pooling = GlotPooling(DIM, hidden_dim=8, heads=2)
    for parameter in pooling.parameters():
        parameter.data.normal_()
    features = {"token_embeddings": torch.randn(2, 5, DIM), "attention_mask": torch.ones(2, 5)}
    wanted = pooling(dict(features))["sentence_embedding"]
    assert torch.equal(pooling.half()(dict(features))["sentence_embedding"], wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pooling(dict(features))["sentence_embedding"], wanted)
    assert {parameter.dtype for parameter in pooling.parameters()} == {torch.float32}


def test_half_precision_rounds_what_was_trained_and_reaches_no_saved_file(tmp_path):
    pooling = GlotPooling(DIM, pooler="adapool", learn_tau=True, standardise=True).exact()
    pooling.head.pooler.readout["kernel"].data.fill_(1 / 3)  # a training step
    present(pooling.head.stem.mean).fill_(0.1)
    pooling.half().save(str(tmp_path))
    loaded = GlotPooling.load(str(tmp_path))
    assert {of.dtype for of in loaded.state_dict().values()} == {torch.float32}
    rounded = loaded.head.pooler.readout["kernel"][0, 0].detach()
    assert float(rounded) == float(torch.tensor(1 / 3).half())
    again = GlotPooling.load(str(tmp_path)).half().to(torch.bfloat16).double().exact()
    assert all(of.dtype == torch.float32 for of in again.state_dict().values())

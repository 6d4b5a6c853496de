"""What a model's parts say about it: sizes of tables, and what its forward pass reads."""

from __future__ import annotations

import types

import pytest
import torch
from support.extraction_case import load_backbone
from support.tiny_backbones import MAX_POSITIONS

from glot_jax.backbones.model_facts import (
    forward_parameters,
    other_input,
    position_limit,
    vocabulary_size,
)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2"])
def test_a_model_says_how_many_tokens_and_positions_it_has(folders, model_type):
    backbone = load_backbone(folders[model_type])
    assert vocabulary_size(backbone.model) == len(backbone.tokenizer)
    assert position_limit(backbone.model) == MAX_POSITIONS
    assert other_input(backbone.model) is None
    assert {"input_ids", "attention_mask"} <= forward_parameters(backbone.model)


class Characters(torch.nn.Module):
    """A model without a table of tokens, which looks at pictures and sets no limit."""

    config = types.SimpleNamespace(get_text_config=lambda: types.SimpleNamespace())

    def get_input_embeddings(self):
        raise NotImplementedError

    def forward(self, pixel_values):
        return pixel_values


def test_a_model_may_have_neither_and_read_something_else():
    model = Characters()
    assert vocabulary_size(model) is None
    assert position_limit(model) is None
    assert other_input(model) == "images"

"""Layers are what the blocks read and write, whatever hidden_states say."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from support.architectures import make_architecture
from support.extraction_case import load_backbone


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba", "rwkv"])
def test_layer_zero_is_what_the_first_block_reads(tmp_path, name):
    folder = make_architecture(name, tmp_path / name)
    backbone = load_backbone(folder, layers=(0, 1, 3))
    ids = [[5, 9, 7, 30], [8, 6]]
    table = (
        transformers.AutoModel.from_pretrained(folder)
        .get_input_embeddings()
        .weight.detach()
        .numpy()
    )
    np.testing.assert_array_equal(backbone.states(ids).layers[0], table[[*ids[0], *ids[1]]])
    assert backbone.recipe().states == {
        "0": "input of block 1",
        "1": "output of block 1",
        "3": "last_hidden_state, after the final norm",
    }

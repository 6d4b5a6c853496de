"""Ragged states and their padded form: the same numbers, and zeros under the mask."""

from __future__ import annotations

import numpy as np
import pytest
from support.extraction_case import load_backbone

from glot_jax.errors import UsageError
from glot_jax.extraction import RaggedStates

TEXTS = ["the cat sat on the mat", "", "a dog", "nobody saw the train"]


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    layers = {layer: rng.normal(size=(8, 4)).astype(np.float32) for layer in (0, 6)}
    return RaggedStates([[1, 2, 3], [4, 5, 6, 7, 8]], layers)


def test_padding_keeps_every_state_and_adds_zeros(states):
    hidden, mask = states.padded(6)
    assert hidden.shape == (2, 5, 4)
    assert mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    np.testing.assert_array_equal(hidden[mask], states.layers[6])
    assert not hidden[~mask].any()


def test_texts_come_apart_at_their_lengths(states):
    assert states.lengths.tolist() == [3, 5]
    first, second = states.split(0)
    np.testing.assert_array_equal(first, states.layers[0][:3])
    np.testing.assert_array_equal(second, states.layers[0][3:])


def test_a_layer_must_be_named_where_there_are_several(states):
    for layer in (None, 3):
        with pytest.raises(UsageError, match=r"must be one of the layers .* Give one of 0, 6"):
            states.padded(layer)
    only = RaggedStates(states.token_ids, {6: states.layers[6]})
    np.testing.assert_array_equal(only.layer(), states.layers[6])


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
@pytest.mark.parametrize("tokens_per_batch", [1, 12, 4096])
def test_a_backbone_encodes_texts_in_their_order(folders, model_type, tokens_per_batch):
    """GPT-2 has no token for an empty text, which needs no pass and no row."""
    backbone = load_backbone(folders[model_type], layers=(1, 2), tokens_per_batch=tokens_per_batch)
    states = backbone.encode(TEXTS)
    assert states.token_ids == backbone.tokenize(TEXTS).ids
    for layer in (1, 2):
        for ids, text_states in zip(states.token_ids, states.split(layer), strict=True):
            assert text_states.shape == (len(ids), backbone.dim)
            if ids:
                alone = backbone.states([ids]).layers[layer]
                np.testing.assert_allclose(text_states, alone, atol=1e-5)


def test_no_texts_are_no_states(folders):
    states = load_backbone(folders["gpt2"]).encode([""])
    hidden, mask = states.padded()
    assert hidden.shape == (1, 0, 32)
    assert mask.shape == (1, 0)

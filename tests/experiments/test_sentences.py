"""Sentences as a run reads them."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.experiments.sentences import sentences_of

pytestmark = pytest.mark.xdist_group("reproduce")  # what they share is made once


def test_tokens_and_states_are_those_of_the_runs_backbone(laboratory, done):
    run = next((done[0].out / "runs" / "cola").glob("mlp-*"))
    tiny = str(laboratory / "tiny")
    first, second = sentences_of(run, ["the cat sat", "a dog"], backbone=tiny)
    assert first.text == "the cat sat"
    assert first.states.shape[0] == len(first.tokens) > len(second.tokens)
    assert np.isfinite(first.states).all()
    assert sentences_of(run, [], backbone=tiny) == []


def test_a_sentence_without_a_token_is_refused(laboratory, done):
    run = next((done[0].out / "runs" / "cola").glob("mlp-*"))
    with pytest.raises(UsageError, match="a sentence must have a token"):
        sentences_of(run, [""], backbone=str(laboratory / "tiny"))

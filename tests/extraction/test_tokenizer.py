"""A text is tokenised once, and cut just as the tokenizer itself cuts it."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import transformers
from hypothesis import strategies
from support.tiny_backbones import CORPUS, MODEL_TYPES, make_backbone

from glot_jax.extraction.tokenizer import truncated_ids

WORDS = " ".join(CORPUS).split()


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    found = {
        name: transformers.AutoTokenizer.from_pretrained(make_backbone(name, root / name))
        for name in MODEL_TYPES
    }
    return {**found, "canine": transformers.CanineTokenizer()}


@hypothesis.given(
    name=strategies.sampled_from([*MODEL_TYPES, "canine"]),
    texts=strategies.lists(
        strategies.lists(strategies.sampled_from([*WORDS, "é", "</s>"]), max_size=30), max_size=6
    ),
    max_length=strategies.integers(3, 20),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_ids_and_cuts_are_those_of_the_tokenizer(tokenizers, name, texts, max_length):
    texts = [" ".join(words) for words in texts]
    ids, truncated = truncated_ids(tokenizers[name], texts, max_length)
    whole = [tokenizers[name](text)["input_ids"] for text in texts]
    assert ids == [
        tokenizers[name](text, truncation=True, max_length=max_length)["input_ids"]
        for text in texts
    ]
    np.testing.assert_array_equal(truncated, [len(text) > max_length for text in whole])


def test_a_text_goes_through_the_tokenizer_once(tokenizers):
    class Counting:
        is_fast = True
        texts = 0

        def __call__(self, texts, **options):
            self.texts += len(texts)
            return tokenizers["bert"](texts, **options)

    counting = Counting()
    texts = ["the cat " * 500, "nobody", "the dog"]
    _, truncated = truncated_ids(counting, texts, 10)
    assert counting.texts == 3
    assert truncated.tolist() == [True, False, False]

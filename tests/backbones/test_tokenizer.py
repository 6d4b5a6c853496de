"""A text is tokenised once, and cut just as the tokenizer itself cuts it."""

from __future__ import annotations

import json

import hypothesis
import numpy as np
import pytest
import transformers
from hypothesis import strategies
from support.extraction_case import change_json, load_backbone
from support.tiny_backbones import (
    CORPUS,
    MODEL_TYPES,
    make_backbone,
)

from glot_jax.backbones.tokenizer import tokenizer_sha256, truncated_ids, vocabulary
from glot_jax.errors import UsageError

WORDS = " ".join(CORPUS).split()


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    tokenizers = {
        name: transformers.AutoTokenizer.from_pretrained(make_backbone(name, root / name))
        for name in MODEL_TYPES
    }
    return {**tokenizers, "canine": transformers.CanineTokenizer()}


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


def test_a_text_goes_through_the_tokenizer_in_rust_once(tokenizers, monkeypatch):
    backend = tokenizers["bert"].backend_tokenizer
    # Whether its backend alone may be asked is found out by a few texts, once.
    truncated_ids(tokenizers["bert"], ["the dog"], 10)
    counted = []

    class Counting:
        def encode_batch_fast(self, texts):
            counted.extend(texts)
            return backend.encode_batch_fast(texts)

    monkeypatch.setattr(type(tokenizers["bert"]), "backend_tokenizer", Counting())
    texts = ["the cat " * 500, "nobody", "the dog"]
    _, truncated = truncated_ids(tokenizers["bert"], texts, 10)
    assert counted == texts
    assert truncated.tolist() == [True, False, False]


def test_a_class_that_changes_texts_in_python_is_asked_itself(tokenizers):
    class Lowering(type(tokenizers["roberta"])):
        def __call__(self, texts, **options):
            return super().__call__([text.lower() for text in texts], **options)

    changed = Lowering(tokenizer_object=tokenizers["roberta"].backend_tokenizer)
    text = "The CAT"
    assert truncated_ids(changed, [text], 10) == truncated_ids(changed, [text.lower()], 10)
    plain, _ = truncated_ids(tokenizers["roberta"], [text], 10)
    assert truncated_ids(changed, [text], 10)[0] != plain


def test_a_text_goes_through_a_tokenizer_of_its_own_ways_once(tokenizers):
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


@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "qwen2", "llama"])
def test_a_folder_without_a_vocabulary_is_refused(tmp_path, model_type):
    folder = make_backbone(model_type, tmp_path / model_type)
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    change_json(
        folder / "tokenizer_config.json", tokenizer_class=f"{model_type.capitalize()}Tokenizer"
    )
    with pytest.raises(UsageError, match="must come with its tokenizer"):
        load_backbone(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UsageError, match="must come with its tokenizer"):
        load_backbone(folder)


def test_a_tokenizers_hash_is_that_of_its_vocabulary_and_rules(folders):
    hashes = {
        tokenizer_sha256(load_backbone(folders[name]).tokenizer)
        for name in ("bert", "roberta", "gpt2", "llama")
    }
    assert len(hashes) == 4
    words = vocabulary(load_backbone(folders["bert"]).tokenizer)
    assert words[:3] == ["[PAD]", "[UNK]", "[CLS]"]


def test_a_promised_token_that_is_not_added_is_said(tmp_path):
    folder = make_backbone("llama", tmp_path / "llama")
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "add_bos_token": True, "add_eos_token": True})
    )
    lines = [line for line in load_backbone(folder).notices() if "tokenizer_config" in line]
    assert len(lines) == 1
    assert (
        "add_eos_token: true, but the tokenizer, as transformers reads it, adds no </s>" in lines[0]
    )

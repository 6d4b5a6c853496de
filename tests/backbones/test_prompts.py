"""Prompts: the stored states are those of a text inside its template.

They end with the token that the template names.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from support.extraction_case import make_case, run
from support.tiny_backbones import MAX_POSITIONS, make_backbone
from support.typed import present

from glot_jax.backbones.prompts import PROMPTS, Prompt
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.store import HiddenStore
from glot_jax.training import train

TEXTS = ["the cat sat on the mat", "", "a dog", 'nobody saw "the" train']
OWN = 'in "[X]" the cat saw'


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("prompts")
    return {
        name: make_backbone(name, place / name) for name in ("bert", "roberta", "gpt2", "llama")
    }


def backbone(folder: Path, prompt: str | None, **options) -> Backbone:
    return Backbone(
        ExtractConfig(
            backbone=str(folder),
            task="custom",
            out=Path("unused"),
            prompt=prompt,
            device="cpu",
            **{"max_length": MAX_POSITIONS, **options},
        )
    )


def by_hand(folder: Path, text: str, template: str) -> tuple[list[int], np.ndarray]:
    """All tokens of the whole string, and their states."""
    tokenizer, model = (
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder).eval(),
    )
    ids = tokenizer(template.replace("[X]", text))["input_ids"]
    with torch.inference_mode():
        return ids, model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


@pytest.mark.parametrize(
    ("model", "prompt"),
    [("bert", "promptbert"), ("bert", OWN), ("roberta", OWN), ("gpt2", OWN), ("llama", OWN)],
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_last_state_is_that_of_the_named_token(folders, model, prompt, side):
    frozen = backbone(folders[model], prompt, padding_side=side)
    assert frozen.kind == "decoder"  # cls is the last token
    tokens = frozen.tokenize(TEXTS)
    assert not tokens.truncated.any()
    assert tokens.empty.tolist() == [False, True, False, False]
    states = frozen.states(tokens.ids).layers[frozen.num_layers]
    ends = np.cumsum([len(ids) for ids in tokens.ids])
    assert len(states) == ends[-1]
    tail = {"bert": 2 if prompt == "promptbert" else 1, "roberta": 1}.get(model, 0)
    for text, ids, end in zip(TEXTS, tokens.ids, ends, strict=True):
        whole, wanted = by_hand(folders[model], text, PROMPTS.get(prompt, prompt))
        assert whole[: len(whole) - tail] == ids
        np.testing.assert_allclose(states[end - len(ids) : end], wanted[: len(ids)], atol=2e-5)
    if prompt == "promptbert":
        assert {ids[-1] for ids in tokens.ids} == {frozen.tokenizer.mask_token_id}


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_text_that_is_too_long_loses_its_end_and_not_the_template(folders, deterministic):
    frozen = backbone(folders["bert"], "promptbert", max_length=24, deterministic=deterministic)
    long = "the cat sat on the mat " * 19
    tokens = frozen.tokenize([long, "a dog"])
    assert tokens.truncated.tolist() == [True, False]
    assert len(tokens.ids[0]) == 24 - 2
    empty = frozen.tokenize([""]).ids[0]
    words = len(empty) - len(tokens.ids[0])
    start = next(
        place
        for place, (one, other) in enumerate(zip(empty, tokens.ids[0], strict=False))
        if one != other
    )
    assert tokens.ids[0][:start] == empty[:start]
    assert tokens.ids[0][start - words :] == empty[start:]
    states = frozen.states(tokens.ids).layers[frozen.num_layers]
    assert len(states) == sum(map(len, tokens.ids))
    np.testing.assert_allclose(
        frozen.states(tokens.ids[1:]).layers[frozen.num_layers], states[22:], atol=2e-5
    )


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("promtbert", "one of knowledge, pretended-cot, promptbert, prompteol, or a template"),
        ("[X] and [X]", "one \\[X\\]"),
        ("[MASK] [X]", "at most one"),
        ("", "one \\[X\\]"),
    ],
)
def test_what_is_no_template(folders, prompt, message):
    with pytest.raises(UsageError, match=message):
        backbone(folders["bert"], prompt)


def test_what_a_model_cannot_do(folders):
    with pytest.raises(UsageError, match="needs a tokenizer with a mask token"):
        backbone(folders["gpt2"], "promptbert")
    room = Prompt(
        PROMPTS["prompteol"], transformers.AutoTokenizer.from_pretrained(folders["bert"])
    ).overhead
    with pytest.raises(UsageError, match=f"must leave room beside the {room} tokens of the prompt"):
        backbone(folders["bert"], "prompteol", max_length=room)
    assert backbone(folders["bert"], "prompteol", max_length=room + 1).tokenize(
        ["the cat"]
    ).truncated.tolist() == [True]
    with pytest.raises(UsageError, match="--kind must be decoder"):
        backbone(folders["bert"], "prompteol", kind="encoder")


def test_from_texts_to_vectors(tmp_path):
    case = dataclasses.replace(
        make_case(tmp_path, {"train": 20, "validation": 8}), prompt=OWN, storage_dtype="float32"
    )
    run(case)
    assert "nothing to do" in run(case)
    assert HiddenStore(case.out).recipe.prompt == OWN
    with pytest.raises(UsageError, match="(?s)states of the same recipe.*prompt"):
        run(dataclasses.replace(case, prompt=None))
    train(
        TrainConfig(
            store=case.out,
            out=tmp_path / "run",
            epochs=1,
            buckets=1,
            # The states as they are.
            pooler=PoolerConfig(pooler="cls", standardise=False),
        ),
        quiet=True,
    )
    encoder = SentenceEncoder.load(tmp_path / "run", backbone=case.backbone, device="cpu")
    for text in TEXTS[:3]:
        whole, states = by_hand(Path(case.backbone), text, OWN)
        np.testing.assert_allclose(
            encoder.encode([text])[0], states[len(whole) - 2], atol=2e-5
        )  # [SEP] comes after it
    stored = HiddenStore(case.out)["validation"]
    texts = [
        json.loads(line)["text"]
        for line in (present(case.data) / "validation.jsonl").read_text().splitlines()
    ]
    np.testing.assert_allclose(encoder.encode(texts[:1])[0], stored.states(0)[-1], atol=2e-5)

"""A backbone that runs elsewhere cuts texts as the one that is loaded does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.extraction_case import load_backbone, make_case
from support.tiny_backbones import CORPUS, make_backbone

from glot_jax.backbones.distant import BackboneFacts, DistantBackbone
from glot_jax.errors import UsageError

TEXTS = [*CORPUS, "", "a", " ".join(CORPUS * 9), "ünïcode ∞ 漢字"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {}),
        ("bert", {"max_length": 7}),
        ("llama", {"add_bos": True}),
        ("llama", {"prompt": "prompteol", "max_length": 40}),
    ],
)
def test_texts_are_cut_as_the_loaded_backbone_cuts_them(tmp_path, kind, options):
    # Not where `make_case` puts one of its own.
    folder = make_backbone(kind, tmp_path / f"the-{kind}")
    backbone = load_backbone(folder, **options)
    config = make_case(tmp_path, {"train": 2}, backbone=str(folder), **options)
    distant = DistantBackbone(config, BackboneFacts.of_backbone(backbone))
    ours = backbone.tokenize(TEXTS)
    theirs = distant.tokenize(TEXTS)
    assert theirs.ids == ours.ids
    np.testing.assert_array_equal(theirs.truncated, ours.truncated)
    np.testing.assert_array_equal(theirs.empty, ours.empty)
    assert distant.recipe() == backbone.recipe()
    # No weights travel.
    files = distant.facts.tokenizer_files
    assert not [name for name in files if name.endswith((".safetensors", ".bin"))]


def test_what_must_be_equal_is_named_where_it_is_not(tmp_path):
    facts = BackboneFacts.of_backbone(load_backbone(make_backbone("bert", tmp_path / "bert")))
    assert facts.differences(facts) == []
    versions = {**facts.versions, "torch": "1.0"}
    other = dataclasses.replace(facts, versions=versions)
    assert facts.differences(other) == [f"torch: {facts.versions['torch']} -> 1.0"]
    other = dataclasses.replace(facts, recipe=facts.recipe.extended(max_length=3))
    assert "max_length" in facts.differences(other)[0]


def test_another_tokenizer_is_refused(tmp_path):
    config = make_case(tmp_path, {"train": 2})
    facts = BackboneFacts.of_backbone(load_backbone(config.backbone))
    other = dataclasses.replace(facts, recipe=facts.recipe.extended(tokenizer="0" * 64))
    with pytest.raises(UsageError, match="must be that of the backbone's process"):
        DistantBackbone(config, other)

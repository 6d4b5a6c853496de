"""The backbone of a recipe, for new texts: the same states, or an error that says what differs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.extraction_case import load_backbone
from support.tiny_backbones import make_backbone

from glot_jax.backbone_files.backbone_source import MINILM
from glot_jax.backbones.from_recipe import config_from
from glot_jax.backbones.from_recipe import load_backbone as load_again
from glot_jax.errors import UsageError
from glot_jax.store.recipe import Recipe

TEXTS = ["the cat sat on the mat", "a dog"]


def test_a_recipes_backbone_gives_the_same_states(folders):
    first = load_backbone(folders["bert"], layers=(1, 2), max_length=12)
    again = load_again(first.recipe(), layers=(2,), backbone=str(folders["bert"]), device="cpu")
    assert again.max_length == 12
    np.testing.assert_array_equal(again.encode(TEXTS).layer(), first.encode(TEXTS).layer(2))


def test_another_backbone_is_refused_with_the_difference(folders, tmp_path):
    recipe = load_backbone(folders["bert"]).recipe()
    other = make_backbone("bert", tmp_path / "bert", seed=1)
    with pytest.raises(UsageError, match=r"that the run was trained on; got backbone\.sha256: "):
        load_again(recipe, layers=(2,), backbone=str(other), device="cpu")
    shutil.rmtree(other)
    with pytest.raises(UsageError, match="backbone of the run must be there.*not a folder"):
        load_again(recipe, layers=(2,), backbone=str(other), device="cpu")


def test_settings_come_from_the_recipe_unless_they_are_changed(folders):
    recipe = Recipe.partial(
        backbone={"name": MINILM, "revision": "a" * 40},
        max_length=32,
        prompt="prompteol",
        deterministic=True,
        weights="pytorch_model.bin",
    )
    config = config_from(recipe, layers=(3,), max_length=16)
    assert config.backbone == "minilm"
    assert config.revision is None
    assert config.max_length == 16
    assert (config.prompt, config.deterministic, config.allow_bin) == ("prompteol", True, True)
    named = Recipe.partial(backbone={"name": "acme/bert", "revision": "a" * 40})
    config = config_from(named, layers=(3,))
    assert config.revision == "a" * 40
    # A folder has no revision, whatever its name was on the Hub.
    local = config_from(recipe, layers=(3,), backbone=str(folders["bert"]))
    assert local.revision is None


def test_a_run_that_does_not_know_its_backbone_is_told_to_name_it():
    with pytest.raises(UsageError, match="must name its backbone.*--backbone"):
        config_from(Recipe(), layers=(1,))

"""Files of a model's folder: what stands in a file's place is named, and links are followed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.extraction_case import load_backbone, token_states

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.errors import UsageError

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:53aa\nsize 90868376\n"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"]
)
def test_a_pointer_of_git_lfs_is_named_with_its_command(llama_copy, name):
    (llama_copy / name).write_text(LFS)
    with pytest.raises(UsageError, match=rf"{name}, a pointer.*git lfs pull"):
        load_backbone(llama_copy)


def test_links_that_became_text_are_followed_or_named(llama_copy):
    expected, identity = token_states(llama_copy), find_source(str(llama_copy), None).sha256
    blobs = llama_copy.parent / "blobs"
    blobs.mkdir()
    for path in llama_copy.iterdir():
        path.rename(blobs / path.name)
        path.write_text(f"../blobs/{path.name}")
    np.testing.assert_array_equal(token_states(llama_copy), expected)
    assert find_source(str(llama_copy), None).sha256 == identity
    assert find_source(str(llama_copy), None).name == "hf"
    assert any(
        "a copy turned into text; they were followed" in line
        for line in load_backbone(llama_copy).notices()
    )
    (blobs / "tokenizer.json").write_text(LFS)
    with pytest.raises(UsageError, match=r"blobs/tokenizer\.json, a pointer"):
        load_backbone(llama_copy)
    shutil.rmtree(blobs)
    with pytest.raises(UsageError, match=r"config\.json, which holds the path \.\./blobs/.*cp -a"):
        load_backbone(llama_copy)


def test_files_that_are_links_are_read_and_dangling_ones_named(llama_copy, llama, tmp_path):
    expected = token_states(llama_copy)
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, path in enumerate(sorted(llama_copy.iterdir())):
        path.rename(cache / str(number))
        path.symlink_to(cache / str(number))
    np.testing.assert_array_equal(token_states(llama_copy), expected)
    assert find_source(str(llama_copy), None).sha256 == find_source(str(llama), None).sha256
    shutil.rmtree(cache)
    with pytest.raises(UsageError, match=r"a link to .*dvc pull"):
        load_backbone(llama_copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_none_is_named(llama_copy, name):
    (llama_copy / name).write_text("{ not json")
    with pytest.raises(UsageError, match=rf"must be JSON; got .*{name}"):
        load_backbone(llama_copy)


def test_files_that_are_not_read_may_be_anything(llama_copy):
    expected = token_states(llama_copy)
    (llama_copy / "pytorch_model.bin").write_text(LFS)
    (llama_copy / "flax_model.msgpack").symlink_to(llama_copy / "nowhere")
    (llama_copy / "eval_predictions.json").write_text('{"a": 1}\n{"a": 2}\n')
    (llama_copy / "trainer_log.json").write_text("")
    (llama_copy / "requirements.txt").write_text("./mypackage")
    (llama_copy / "notes.txt").write_text("./" + "x" * 300)
    np.testing.assert_array_equal(token_states(llama_copy), expected)
    np.testing.assert_array_equal(token_states(llama_copy, allow_bin=True), expected)

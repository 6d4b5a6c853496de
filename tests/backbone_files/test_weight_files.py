"""Weights are read from files that cannot run code, and from the model's own folder only."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.extraction_case import load_backbone, token_states
from support.tiny_backbones import make_backbone

from glot_jax.errors import UsageError


class _Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_bin_is_read_when_that_is_allowed_and_gives_the_same_states(llama_copy):
    expected = token_states(llama_copy)
    torch.save(load_file(llama_copy / "model.safetensors"), llama_copy / "pytorch_model.bin")
    (llama_copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"pytorch_model\.bin.*--allow-bin"):
        load_backbone(llama_copy)
    np.testing.assert_array_equal(token_states(llama_copy, allow_bin=True), expected)
    assert load_backbone(llama_copy, allow_bin=True).recipe().weights == "pytorch_model.bin"
    safe = load_backbone(make_backbone("llama", llama_copy.parent / "safe"))
    assert "weights" not in safe.recipe().to_json()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_bin_runs_nothing(llama_copy, tmp_path, zipped):
    ran = tmp_path / "ran"
    weights = {**load_file(llama_copy / "model.safetensors"), "norm.weight": _Malicious(ran)}
    if zipped:
        torch.save(weights, llama_copy / "pytorch_model.bin")
    else:
        (llama_copy / "pytorch_model.bin").write_bytes(pickle.dumps(_Malicious(ran)))
    (llama_copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="must name a model that transformers can load"):
        load_backbone(llama_copy, allow_bin=True)
    assert not ran.exists()
    if zipped:
        # The same file does run its code where it is trusted, or the test would show nothing.
        torch.load(llama_copy / "pytorch_model.bin", weights_only=False)
        assert ran.exists()


@pytest.mark.parametrize("name", ["../outside.safetensors", "/tmp/outside.safetensors", 3])
def test_an_index_names_files_of_its_own_folder(llama_copy, name):
    index = {"metadata": {}, "weight_map": {"norm.weight": name}}
    (llama_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        UsageError, match="must name files of its own folder|must map names of arrays to files"
    ):
        load_backbone(llama_copy)

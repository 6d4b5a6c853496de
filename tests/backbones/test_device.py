"""Where a backbone runs: a device that is not there is refused, a model may be spread over some."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from support.extraction_case import load_backbone

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.backbones import backbone
from glot_jax.backbones.device import first_device
from glot_jax.backbones.loading import load_model
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.runs import BackboneChoice
from glot_jax.errors import EXTRAS, UsageError
from glot_jax.extraction import Backbone

IDS = [[5, 9, 7, 30], [8, 4]]


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folders, device):
    with pytest.raises(UsageError, match="--device"):
        Backbone(
            ExtractConfig(
                backbone=str(folders["bert"]), task="custom", out=Path("unused"), device=device
            )
        )


def test_a_backbone_of_which_a_block_stays_on_disk_has_the_same_states(folders, monkeypatch):
    layers = (0, 1, 2)
    whole = load_backbone(folders["llama"], layers=layers)
    spread = {
        "embed_tokens": "cpu",
        "rotary_emb": "cpu",
        "layers.0": "disk",
        "layers.1": "cpu",
        "norm": "cpu",
    }
    # What "auto" comes to on a machine whose GPU and memory are too small.
    monkeypatch.setattr(backbone, "load_model", functools.partial(_load_with, spread))
    parts = load_backbone(folders["llama"], layers=layers, device="auto", device_map="auto")
    places = {str(parameter.device) for parameter in parts.model.layers[0].parameters()}
    # Its weights are read when the block runs.
    assert places == {"meta"}
    expected = whole.states(IDS)
    states = parts.states(IDS)
    for layer in layers:
        np.testing.assert_array_equal(states.layers[layer], expected.layers[layer])
    assert parts.recipe() == whole.recipe()


def _load_with(spread, source, dtype, device, device_map):
    assert device_map == "auto"
    return load_model(source, dtype, device, spread)


def test_without_a_gpu_auto_is_the_cpu(folders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    parts = load_backbone(folders["bert"], device="auto", device_map="auto")
    assert parts.device == torch.device("cpu")
    whole = load_backbone(folders["bert"]).states(IDS)
    np.testing.assert_array_equal(parts.states(IDS).layers[2], whole.layers[2])


def test_inputs_go_to_the_first_gpu_of_a_model_that_is_spread():
    class Model:
        def __init__(self, **device_map):
            self.hf_device_map = device_map

    cpu = torch.device("cpu")
    assert first_device(Model(a="cpu", b=1, c="disk"), cpu) == torch.device("cuda", 1)
    assert first_device(Model(a="cuda:2", b="cpu"), cpu) == torch.device("cuda:2")
    assert first_device(Model(a="cpu", b="disk"), cpu) == cpu
    assert first_device(object(), torch.device("cuda", 3)) == torch.device("cuda", 3)


def test_a_backbone_has_one_place():
    with pytest.raises(UsageError, match=r"--device-map auto with --device cpu"):
        ExtractConfig(backbone="b", task="custom", out=Path("o"), device="cpu", device_map="auto")
    with pytest.raises(UsageError, match=r"--device-map auto with --device cuda:0"):
        BackboneChoice(device="cuda:0", device_map="auto")


def test_to_spread_a_backbone_needs_its_package(folders, monkeypatch):
    monkeypatch.setitem(EXTRAS, "offload", ("no_such_module",))
    source = find_source(str(folders["bert"]), None)
    with pytest.raises(UsageError, match=r"--device-map needs the package.*glot-jax\[offload\]"):
        load_model(source, torch.float32, torch.device("cpu"), "auto")

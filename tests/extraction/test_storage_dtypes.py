"""What states are worth on disk: int8 with its measured error, and how far a text's states depend
on its company.
"""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.extraction_case import make_case, run, tree
from support.tiny_backbones import CORPUS, MODEL_TYPES, make_backbone

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone, dump
from glot_jax.extraction.storage_dtypes import quantise
from glot_jax.store import HiddenStore, describe, verify

SCALES = st.sampled_from([1e-30, 1e-9, 1e-6, 1e-3, 1.0, 100.0, 1e4, 1e6])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), SCALES, st.randoms(use_true_random=False))
def test_a_quantised_state_is_within_half_a_scale(tokens, dim, scale, random):
    states = np.random.default_rng(random.randrange(2**32)).normal(size=(tokens, dim)).astype(
        np.float32
    ) * np.float32(scale)
    states[0] = 0
    values, scales, errors = (part.numpy() for part in quantise(torch.from_numpy(states)))
    assert values.dtype == np.int8
    assert scales.dtype == np.float16
    assert np.isfinite(scales).all()
    back = values * scales[:, None].astype(np.float64)
    # Half a step, and the rounding of float32 in between.
    assert np.all(np.abs(back - states) <= (0.5 + 1e-4) * scales[:, None].astype(np.float64))
    np.testing.assert_allclose(
        errors, [one_minus_cos(*pair) for pair in zip(states, back, strict=True)], atol=1e-6
    )


def one_minus_cos(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return 0.5  # half the squared length of a unit vector
    return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_an_int8_store_reads_as_float16_and_says_how_much_was_lost(tmp_path):
    config = make_case(
        tmp_path, {"train": 14, "validation": 4}, layers=(1, 2), storage_dtype="int8"
    )
    run(config)
    run(dataclasses.replace(config, storage_dtype="float32", out=tmp_path / "exact"))
    assert verify(config.out) == []
    worst, errors = 0.0, []
    for layer in (1, 2):
        for split in ("train", "validation"):
            stored, exact = (
                HiddenStore(out, layer=layer)[split] for out in (config.out, tmp_path / "exact")
            )
            assert stored.dtype == np.float16
            np.testing.assert_array_equal(
                stored.read_all(),
                np.concatenate([stored.states(text) for text in range(len(stored.text_lengths))]),
            )
            errors += [
                one_minus_cos(*pair)
                for pair in zip(stored.read_all(), exact.read_all(), strict=True)
            ]
            worst = max(worst, float(np.abs(stored.read_all() - exact.read_all()).max()))
    told = describe(config.out)["splits"]
    assert 0 < worst < 0.03
    assert max(split["cosine_error"]["max"] for split in told.values()) == pytest.approx(
        max(errors), rel=0.05
    )
    mean = sum(split["cosine_error"]["mean"] * split["tokens"] for split in told.values()) / sum(
        split["tokens"] for split in told.values()
    )
    assert mean == pytest.approx(np.mean(errors), rel=0.05)
    assert "cosine_error" not in describe(tmp_path / "exact")["splits"]["train"]
    sizes = [
        sum(split["bytes"] for split in describe(out)["splits"].values())
        for out in (config.out, tmp_path / "exact")
    ]
    assert sizes[0] < sizes[1]


def test_int8_states_that_float16_cannot_hold_read_as_float32(tmp_path):
    loud = make_backbone("bert", tmp_path / "loud", scale=1e5)
    config = make_case(tmp_path, {"train": 6}, backbone=str(loud), storage_dtype="int8")
    run(config)
    reader = HiddenStore(config.out)["train"]
    assert reader.dtype == np.float32
    assert np.isfinite(reader.read_all()).all()
    assert np.abs(reader.read_all()).max() > 65504
    too_loud = make_backbone("bert", tmp_path / "too_loud", scale=1e8)
    with pytest.raises(
        UsageError, match=r"int8 states do not exceed .* row \d+\. Use --storage-dtype float32"
    ):
        run(dataclasses.replace(config, backbone=str(too_loud), out=tmp_path / "other"))


# --------------------------------------------------------------------------------------------------
# Company

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05, "float16": 0.01}
"""Largest difference that other texts in the pass make, as a share of the largest state.

In README.
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {name: str(make_backbone(name, root / name)) for name in MODEL_TYPES}


@pytest.mark.parametrize("compute_dtype", list(TOLERANCE))
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_company_changes_a_state_within_the_tolerance_of_its_dtype(
    folders, compute_dtype, model_type, side
):
    config = ExtractConfig(
        folders[model_type],
        "custom",
        Path("store"),
        compute_dtype=compute_dtype,
        padding_side=side,
        device="cpu",
    )
    backbone = Backbone(config)
    ids = backbone.tokenize(CORPUS).ids
    alone = np.concatenate([backbone.states([one]).layers[2] for one in ids])
    together = backbone.states(ids).layers[2]
    assert np.abs(alone - together).max() <= TOLERANCE[compute_dtype] * np.abs(alone).max()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_deterministic_states_do_not_depend_on_company_at_all(folders, model_type):
    backbone = Backbone(
        ExtractConfig(
            folders[model_type],
            "custom",
            Path("store"),
            deterministic=True,
            device="cpu",
            compute_dtype="bfloat16",
        )
    )
    ids = backbone.tokenize(CORPUS).ids
    alone = [backbone.states([one]).layers[2] for one in ids]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0]):
        np.testing.assert_array_equal(
            backbone.states([ids[text] for text in order]).layers[2],
            np.concatenate([alone[text] for text in order]),
        )
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    "change", [{"tokens_per_batch": 7}, {"tokens_per_batch": 10_000}, {"padding_side": "left"}]
)
def test_deterministic_stores_are_equal_byte_for_byte(tmp_path, change):
    config = make_case(tmp_path, {"train": 14}, deterministic=True, storage_dtype="float32")
    run(config)
    run(dataclasses.replace(config, out=tmp_path / "other", **change))
    assert tree(config.out) == tree(tmp_path / "other")


def test_deterministic_is_part_of_the_recipe(tmp_path):
    config = make_case(tmp_path, {"train": 5})
    dump(config, console=Console(file=io.StringIO()))
    assert "deterministic" not in HiddenStore(config.out).recipe.to_json()
    with pytest.raises(UsageError, match="deterministic: None -> True"):
        run(dataclasses.replace(config, deterministic=True))

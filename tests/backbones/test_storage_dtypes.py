"""What states are worth on disk.

int8 with its measured error, and how far a text's states depend on its company.
"""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.extraction_case import make_case, run
from support.tiny_backbones import make_backbone

from glot_jax.backbones.storage_dtypes import quantise
from glot_jax.errors import UsageError
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


def one_minus_cos(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return 0.5  # half the squared length of a unit vector
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("dtype", "largest"), [("int8", 0.03), ("int4", 0.6)])
def test_a_scaled_store_reads_as_float16_and_says_how_much_was_lost(dtype, largest, tmp_path):
    config = make_case(tmp_path, {"train": 14, "validation": 4}, layers=(1, 2), storage_dtype=dtype)
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
    assert 0 < worst < largest
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
        UsageError, match=r"int8 states must not exceed .* row \d+\. Use --storage-dtype float32"
    ):
        run(dataclasses.replace(config, backbone=str(too_loud), out=tmp_path / "other"))


# --------------------------------------------------------------------------------------------------
# Company

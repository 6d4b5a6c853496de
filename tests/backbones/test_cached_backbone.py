"""A text goes through the model once; what was kept has the states that the model gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.extraction_case import load_backbone

from glot_jax.backbones.cached_backbone import CachedBackbone
from glot_jax.config.extract import ExtractConfig
from glot_jax.store import state_cache

TEXTS = ["the cat sat", "a dog", "the cat sat", "the mat was red and so was the cat"]


def cached(folder, cache: Path, *, deterministic: bool = False) -> CachedBackbone:
    config = ExtractConfig(
        backbone=str(folder),
        task="custom",
        out=Path("unused"),
        device="cpu",
        layers=(1, 2),
        deterministic=deterministic,
    )
    return CachedBackbone(config, cache=cache)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_kept_states_are_the_models(folders, tmp_path, dtype):
    backbone = cached(folders["llama"], tmp_path / "c")
    plain = load_backbone(folders["llama"], layers=(1, 2))
    ids = backbone.tokenize(TEXTS).ids
    backbone.keep(ids, dtype)
    assert backbone.runs == 3
    states = backbone.states(ids, dtype)
    assert backbone.runs == 3
    expected = plain.states(ids, dtype)
    for layer in (1, 2):
        assert states.layers[layer].dtype == expected.layers[layer].dtype
        # Rounded after sums in another order: a unit in the last place at most.
        close = _floats(states.layers[layer], dtype), _floats(expected.layers[layer], dtype)
        np.testing.assert_allclose(*close, rtol=1e-2 if dtype == "bfloat16" else 2e-3, atol=1e-3)
    assert states.peak == pytest.approx(expected.peak, rel=1e-2)


def _floats(array, dtype):
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def test_another_process_runs_nothing_again(folders, tmp_path):
    first = cached(folders["llama"], tmp_path / "c")
    ids = first.tokenize(TEXTS).ids
    first.keep(ids[:2], "float16")
    second = cached(folders["llama"], tmp_path / "c")
    second.keep(ids[:2], "float16")
    assert second.runs == 0
    np.testing.assert_array_equal(
        second.states(ids[:2], "float16").layers[2], first.states(ids[:2], "float16").layers[2]
    )
    # Beside what nobody kept, in their order.
    mixed = second.states([ids[3], ids[1]], "float16").layers[2]
    assert second.runs == 1
    assert len(mixed) == len(ids[3]) + len(ids[1])
    np.testing.assert_array_equal(mixed[len(ids[3]) :], first.states([ids[1]], "float16").layers[2])


def test_states_that_owe_nothing_to_company_are_kept_apart(folders, tmp_path):
    padded = cached(folders["llama"], tmp_path / "c")
    ids = padded.tokenize(TEXTS).ids
    padded.keep(ids, "float16")
    alone = cached(folders["llama"], tmp_path / "c", deterministic=True)
    alone.keep(ids, "float16")
    assert alone.runs == 3
    states = alone.states(ids, "float16").layers[2]
    expected = [alone.states([text], "float32").layers[2] for text in ids]
    np.testing.assert_array_equal(states, np.concatenate(expected).astype(np.float16))


def test_another_model_has_states_of_its_own(folders, tmp_path):
    llama = cached(folders["llama"], tmp_path / "c")
    ids = [[5, 6, 7]]
    llama.keep(ids, "float32")
    gpt2 = cached(folders["gpt2"], tmp_path / "c")
    gpt2.keep(ids, "float32")
    assert gpt2.runs == 1


def test_states_that_a_dtype_cannot_hold_are_not_kept(loud, tmp_path):
    backbone = cached(loud, tmp_path / "c")
    ids = backbone.tokenize(["the cat sat"]).ids
    backbone.keep(ids, "float16")
    assert not list((tmp_path / "c").glob("*/*.states"))
    assert backbone.states(ids, "float16").peak > 65504
    backbone.keep(ids, "bfloat16")
    assert list((tmp_path / "c").glob("*/*.states"))


def test_states_that_were_removed_meanwhile_are_computed_again(folders, tmp_path, monkeypatch):
    # Nothing stays mapped but what was read last.
    monkeypatch.setattr(state_cache, "_MOST_MAPPED", 1)
    backbone = cached(folders["llama"], tmp_path / "c")
    ids = backbone.tokenize(TEXTS[:2]).ids
    for text in ids:
        backbone.keep([text], "float16")
    expected = backbone.states(ids, "float16")
    runs = backbone.runs
    state_cache.clear_cache(tmp_path / "c")
    again = backbone.states(ids, "float16")
    assert backbone.runs == runs + 2
    for layer, states in expected.layers.items():
        np.testing.assert_allclose(again.layers[layer], states, atol=1e-3)

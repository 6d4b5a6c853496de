"""A shard's states: large ones in a wider dtype, broken ones refused with split and row."""

import dataclasses
import importlib

import ml_dtypes
import numpy as np
import pytest
from support.dump_case import refuse, run, texts_of

from glot_jax.extraction import Backbone
from glot_jax.store import verify
from glot_jax.store.layout import MANIFEST


def test_states_beyond_float16_are_stored_as_bfloat16_and_said_so(make, loud):
    store, printed = run(make(backbone=loud, storage_dtype="auto"))
    assert store["train"].dtype == np.dtype(ml_dtypes.bfloat16)
    assert store.manifest.splits["train"].max_abs > 65504
    assert "shard-00000 is stored as bfloat16" in printed
    exact, _ = run(make("exact", backbone=loud))
    np.testing.assert_array_equal(
        store["train"].read_all(), exact["train"].read_all().astype(ml_dtypes.bfloat16)
    )


def test_each_shard_has_its_own_dtype_and_a_mixed_split_reads_as_float32(make, monkeypatch):
    exact, _ = run(make("exact"))
    peaks = [shard.max_abs for shard in exact.manifest.splits["train"].shards]
    assert len(set(peaks)) == len(peaks)
    middle = (sorted(peaks)[-1] + sorted(peaks)[-2]) / 2
    monkeypatch.setattr(
        importlib.import_module("glot_jax.extraction.shard"),
        "largest_value",
        lambda dtype: middle if dtype == "float16" else np.inf,
    )
    store, _ = run(make(storage_dtype="auto"))
    dtypes = [shard.dtypes["2"] for shard in store.manifest.splits["train"].shards]
    assert [dtype == "bfloat16" for dtype in dtypes] == [peak > middle for peak in peaks]
    assert store["train"].dtype == np.float32
    assert verify(store.path) == []


def test_states_beyond_an_explicit_float16_are_refused_with_the_row(make, loud, tmp_path):
    refuse(
        make(backbone=loud, storage_dtype="float16"),
        r"in split train, row \d+\. Use --storage-dtype bfloat16",
    )
    assert not list(tmp_path.glob("store*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_states_that_are_not_finite_are_refused_with_split_and_row(
    make, data, tmp_path, value, monkeypatch
):
    def states(self, ids, dtype="float32", original=Backbone.states):
        found = original(self, ids, dtype)
        start = 0
        for text in ids:
            if text.tolist() == self.tokenizer(texts_of(data)[17])["input_ids"]:
                found.layers[2][start] = value
                found = dataclasses.replace(found, peak=value)
            start += len(text)
        return found

    monkeypatch.setattr(Backbone, "states", states)
    refuse(make(), r"nan or inf in split train, row 17")
    # What came before row 17 is kept for the next run, without the broken shard.
    assert not list(tmp_path.glob("store/*/.tmp-*"))
    assert not (tmp_path / "store" / MANIFEST).exists()

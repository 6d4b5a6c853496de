"""Texts to store: the right states in the right places.

The same bytes however the run went, and no half-written store.
"""

import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from support.dump_case import run, texts_of, write_rows
from support.extraction_case import tree
from support.tiny_backbones import MODEL_TYPES

from glot_jax.store import HiddenStore, verify
from glot_jax.store.layout import MANIFEST

# --------------------------------------------------------------------------------------------------
# What is stored


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_stored_states_are_those_of_one_text_at_a_time(make, folders, data, model_type):
    store, _ = run(make(backbone=str(folders[model_type]), layers=(1, -1)))
    model = transformers.AutoModel.from_pretrained(folders[model_type], dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[model_type])
    both = HiddenStore(store.path, layers=(1, 2))
    for row, text in enumerate(texts_of(data)):
        ids = tokenizer(text)["input_ids"]
        assert store["train"].token_ids(row).tolist() == ids
        assert store["train"][row].label == row % 2
        if ids:
            with torch.no_grad():
                outputs = model(torch.tensor([ids]), output_hidden_states=True)
            np.testing.assert_allclose(
                store["train"].states(row), outputs.last_hidden_state[0], atol=1e-5
            )
            np.testing.assert_allclose(
                both["train"].states(row)[:, 0], outputs.hidden_states[1][0], atol=1e-5
            )
    assert len(both["train"].shard_texts) > 3
    assert verify(store.path) == []


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_padding_side_and_token_budget_change_no_state(make, folders, model_type):
    backbone = str(folders[model_type])
    stores = [
        run(make(f"store{index}", backbone=backbone, padding_side=side, tokens_per_batch=budget))[0]
        for index, (side, budget) in enumerate(
            [("right", 40), ("left", 40), ("right", 1), ("left", 10_000)]
        )
    ]
    for store in stores[1:]:
        np.testing.assert_allclose(
            store["train"].read_all(), stores[0]["train"].read_all(), atol=1e-5
        )
        assert store.recipe == stores[0].recipe


def test_a_store_holds_manifest_and_splits_and_nothing_else(make, tmp_path):
    config = make()
    store, printed = run(config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    assert sorted(path.name for path in config.out.iterdir()) == [MANIFEST, "train", "validation"]
    names = {path.name for path in (config.out / "train").iterdir()}
    shards = len(store.manifest.splits["train"].shards)
    assert names == {
        "labels.npy",
        "roles.npy",
        "row_offsets.npy",
        "row_texts.npy",
        *(f"shard-{index:05d}" for index in range(shards)),
    }
    assert (config.out / "train/shard-00000/hidden-L2-00000.npy").is_file()
    for word in (str(tmp_path), os.uname().nodename):
        assert word.encode() not in (config.out / MANIFEST).read_bytes()
    assert "train: 30 rows" in printed
    assert "MB free" in printed or "GB free" in printed or "TB free" in printed


def test_two_extractions_are_equal_byte_for_byte(make):
    first, second = make("first"), make("second")
    run(first)
    run(second)
    assert tree(first.out) == tree(second.out)


def test_texts_without_labels_are_stored(make):
    store, _ = run(make(label_column=None))
    assert store["train"].labels is None
    assert store["train"][0].label is None


@pytest.mark.parametrize(("model_type", "length"), [("bert", 2), ("gpt2", 0)])
def test_an_empty_text_is_kept_as_a_row(make, folders, model_type, length):
    store, printed = run(make(backbone=str(folders[model_type])))
    assert store["train"][3].hidden.shape == (length, 32)
    assert store.manifest.splits["train"].empty == 1
    assert "1 texts are empty" in printed


def test_a_split_of_empty_texts_only_can_be_stored(make, folders, tmp_path):
    data = write_rows(tmp_path / "data", change=lambda rows: [{**row, "text0": ""} for row in rows])
    store, _ = run(make(data=data, backbone=str(folders["gpt2"])))
    assert len(store["train"]) == 30
    assert store["train"].read_all().shape == (0, 32)
    assert store["train"][5].hidden.shape == (0, 32)
    assert verify(store.path) == []


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", np.float16), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)],
)
def test_storage_dtypes(make, dtype, expected):
    exact, _ = run(make("exact"))
    store, _ = run(make(storage_dtype=dtype))
    assert store["train"].dtype == expected
    np.testing.assert_array_equal(
        store["train"].read_all(), exact["train"].read_all().astype(expected)
    )


# --------------------------------------------------------------------------------------------------
# Large and broken values


# --------------------------------------------------------------------------------------------------
# Resuming


# --------------------------------------------------------------------------------------------------
# Refusals before anything is written


def test_extraction_imports_no_jax():
    script = "import sys, glot_jax.extraction; assert not {'jax', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])

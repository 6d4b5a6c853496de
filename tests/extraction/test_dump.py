"""Texts to store: the right states in the right places, the same bytes however the run went, and no
half-written store.
"""

import dataclasses
import errno
import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
import transformers
from rich.console import Console
from support.tiny_backbones import CORPUS, MODEL_TYPES, make_backbone

from glot_jax import disk
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone, dump
from glot_jax.store import HiddenStore, verify
from glot_jax.store.layout import MANIFEST, lock_folder
from glot_jax.store.writer import ShardWriter

WORDS = " ".join(CORPUS).split()
ROWS = {"train": 30, "validation": 8}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {name: make_backbone(name, root / name) for name in MODEL_TYPES}


def write_rows(folder, rows=ROWS, pairs=False, label=lambda row: row % 2, change=lambda rows: rows):
    """Texts of 0 to 9 words; row 3 is empty."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, count in rows.items():
        found = []
        for row in range(count):
            texts = [
                " ".join(rng.choice(WORDS, rng.integers(1, 10))) if row != 3 else ""
                for _ in range(1 + pairs)
            ]
            found.append(
                {**{f"text{index}": text for index, text in enumerate(texts)}, "label": label(row)}
            )
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, change(found))))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make(folders, data, tmp_path):
    """make(name, **options) -> the config of a store tmp_path / name; several shards by default."""

    def config(name="store", **options):
        defaults = {
            "backbone": str(folders["bert"]),
            "task": "custom",
            "data": data,
            "text_columns": ("text0",),
            "label_column": "label",
            "shard_tokens": 60,
            "tokens_per_batch": 40,
            "device": "cpu",
            "storage_dtype": "float32",
        }
        return ExtractConfig(out=tmp_path / name, **{**defaults, **options})

    return config


def run(config):
    """(store, what was printed)."""
    console = Console(file=io.StringIO(), width=1000)
    return dump(config, console=console), console.file.getvalue()


def refuse(config, match):
    with pytest.raises(UsageError, match=match):
        run(config)


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def texts_of(folder, split="train"):
    return [
        json.loads(line)["text0"] for line in (folder / f"{split}.jsonl").read_text().splitlines()
    ]


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


def test_shards_are_cut_at_the_same_texts_however_they_are_read(make, monkeypatch):
    first = make("first")
    run(first)
    monkeypatch.setattr("glot_jax.extraction.shard_texts.CHUNK_ROWS", 3)
    second = make("second")
    run(second)
    assert tree(first.out) == tree(second.out)
    lengths = [shard.tokens for shard in HiddenStore(first.out).manifest.splits["train"].shards]
    assert all(60 <= tokens < 60 + 64 for tokens in lengths[:-1])


def test_pairs_stay_together_and_regression_labels_are_kept(make, tmp_path):
    data = write_rows(tmp_path / "pairs", pairs=True, label=lambda row: row / 4)
    store, _ = run(make(data=data, text_columns=("text0", "text1")))
    split = store["train"]
    assert split.texts_per_row == 2
    assert split.labels.dtype == np.float32
    assert split.labels.tolist() == [row / 4 for row in range(30)]
    assert split.roles.tolist() == [0, 1] * 30
    assert all(count % 2 == 0 for count in np.diff(split.shard_texts))
    assert store.task["roles"] == ["a", "b"]


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


def test_truncated_texts_are_counted(make, data):
    store, printed = run(make(max_length=5))
    expected = sum(len(text.split()) > 3 for text in texts_of(data))
    assert store.manifest.splits["train"].truncated == expected > 0
    assert f"{expected} of 30 texts were cut to 5 tokens" in printed
    assert store["train"].text_lengths.max() == 5


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


def test_diagnostic_needs_no_data(make):
    config = make(
        task="diagnostic",
        data=None,
        text_columns=(),
        label_column=None,
        diagnostic_rows=(6, 2, 4),
        max_length=16,
    )
    store, _ = run(config)
    assert [len(store[name]) for name in store] == [6, 2, 4]
    assert store.recipe.protocol == "controlled"
    refuse(dataclasses.replace(config, ratio=0.5), r"ratio: 0\.9 -> 0\.5")


# --------------------------------------------------------------------------------------------------
# Large and broken values


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    """A backbone whose last states exceed float16."""
    return str(make_backbone("llama", tmp_path_factory.mktemp("loud") / "llama", scale=60_000.0))


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
        importlib.import_module("glot_jax.extraction.split_dump"),
        "_limit",
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
    make, data, folders, tmp_path, value, monkeypatch
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


# --------------------------------------------------------------------------------------------------
# Resuming


def interrupt_after(monkeypatch, shards, error=KeyboardInterrupt):
    """Let `shards` shards be finished; the next one fails when states are put into it for the
    second time.
    """
    count, original = [0], disk.write

    def write(file, data, at):
        # Only this shard's files: the one before may still be sealed by another thread.
        if f"shard-{shards:05d}/hidden" in os.readlink(f"/proc/self/fd/{file}") and at > 0:
            count[0] += 1
            if count[0] > 1:
                raise error
        return original(file, data, at)

    monkeypatch.setattr(disk, "write", write)


def test_an_interrupted_store_is_continued_and_equal_byte_for_byte(make, monkeypatch):
    undisturbed, config = make("undisturbed"), make()
    run(undisturbed)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert [path.name for path in (config.out / "train").iterdir()] == ["shard-00000"]
    assert [path.name for path in lock_folder(config.out).iterdir()] == ["recipe.json"]
    with pytest.raises(UsageError, match="Run the extract command again to continue"):
        HiddenStore(config.out)
    (config.out / "train/.tmp-shard-00001").mkdir()
    (config.out / ".tmp-manifest.json").write_text("{")
    states = config.out / "train/shard-00000/hidden-L2-00000.npy"
    before = states.stat()
    run(config)
    assert tree(config.out) == tree(undisturbed.out)
    assert (states.stat().st_ino, states.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not lock_folder(config.out).exists()


def test_a_second_writer_is_refused(make):
    config = make()
    lock_folder(config.out).mkdir()
    (lock_folder(config.out) / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 12}))
    refuse(config, "process 12 on host elsewhere")
    assert not config.out.exists()


def test_a_finished_store_is_left_as_it_is(make, monkeypatch):
    config = make()
    run(config)
    before = tree(config.out)
    monkeypatch.setattr(ShardWriter, "__enter__", lambda self: pytest.fail("a shard was written"))
    lock_folder(config.out).mkdir()
    store, printed = run(dataclasses.replace(config, tokens_per_batch=7, padding_side="left"))
    assert "complete already" in printed
    assert tree(config.out) == before
    assert store.content == HiddenStore(config.out).content
    assert not lock_folder(config.out).exists()


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_is_refused_field_by_field(make, folders, monkeypatch, finished):
    config = make()
    with monkeypatch.context() as patch:
        if finished:
            run(config)
        else:
            interrupt_after(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                run(config)
    before = tree(config.out)
    refuse(
        dataclasses.replace(config, max_length=9, layers=(0,)),
        r"layers: \[2\] -> \[0\]\n  max_length: 64 -> 9\n(.*\n)*.*Choose another --out",
    )
    refuse(dataclasses.replace(config, backbone=str(folders["roberta"])), r"backbone\.sha256: ")
    refuse(
        dataclasses.replace(config, storage_dtype="float16"),
        r"storage_dtype: 'float32' -> 'float16'",
    )
    refuse(dataclasses.replace(config, shard_tokens=61), "shard_tokens: 60 -> 61")
    assert tree(config.out) == before


CHANGES = {
    "text": lambda rows: [*rows[:1], {**rows[1], "text0": "nobody saw"}, *rows[2:]],
    "fewer": lambda rows: rows[:3],
    "label": lambda rows: [{**rows[0], "label": 1}, *rows[1:]],
}


# An unfinished split has no labels yet.
@pytest.mark.parametrize(
    ("change", "finished"),
    [("text", True), ("fewer", True), ("label", True), ("text", False), ("fewer", False)],
)
def test_other_texts_or_labels_are_refused(make, monkeypatch, tmp_path, change, finished):
    config = make(data=write_rows(tmp_path / "data"))
    with monkeypatch.context() as patch:
        if finished:
            run(config)
        else:
            interrupt_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                run(config)
    before = tree(config.out)
    write_rows(tmp_path / "data", change=CHANGES[change])
    refuse(config, "the data changed since|The data changed since")
    assert tree(config.out) == before


def test_a_finished_store_with_a_missing_shard_is_refused(make):
    config = make()
    run(config)
    (config.out / "train/shard-00001").rename(config.out.parent / "gone")
    refuse(config, "shard-00001, which is missing")


# --------------------------------------------------------------------------------------------------
# Refusals before anything is written


def test_a_folder_of_somebody_else_is_refused(make):
    config = make()
    config.out.mkdir()
    (config.out / "thesis.txt").write_text("mine")
    refuse(config, "holds other things")
    assert tree(config.out) == {"thesis.txt": b"mine"}
    file = make("file")
    file.out.write_text("")
    refuse(file, "which is a file")


def test_an_empty_folder_may_be_used_and_stays_if_nothing_is_stored(make, monkeypatch):
    config = make()
    config.out.mkdir()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert list(config.out.iterdir()) == []
    assert not lock_folder(config.out).exists()
    run(config)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layers": (5,)}, "--layers of bert are"),
        ({"max_length": 65}, "up to 64 tokens"),
        ({"backbone": "./nowhere"}, "no folder"),
        ({"task": "nothing"}, "Known:"),
        ({"text_columns": ("absent",)}, "absent"),
    ],
)
def test_mistakes_are_found_before_the_store_is_made(make, tmp_path, options, match):
    refuse(make(**options), match)
    assert not list(tmp_path.iterdir())


def test_a_split_without_rows_is_refused(make, tmp_path):
    write_rows(tmp_path / "data")
    (tmp_path / "data/validation.jsonl").write_text("")
    refuse(make(data=tmp_path / "data"), "at least one row")


def test_a_small_disk_is_refused_before_the_first_write(make, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    refuse(make(), rf"bytes\) needed for {tmp_path}/store, 1\.0 kB \(1000 bytes\) free")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_names_the_shard_and_keeps_the_rest(make, monkeypatch):
    config, undisturbed = make(), make("undisturbed")
    run(undisturbed)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1, OSError(errno.ENOSPC, "No space left on device"))
        refuse(config, r"shard-00001, \d+ bytes; got \d+ bytes free")
    assert [path.name for path in (config.out / "train").iterdir()] == ["shard-00000"]
    run(config)
    assert tree(config.out) == tree(undisturbed.out)


def test_an_output_that_cannot_be_written_is_refused(make, tmp_path):
    (tmp_path / "file").write_text("")
    refuse(make("file/store"), "can be written|not a directory|Not a directory")


def test_extraction_imports_no_jax():
    script = "import sys, glot_jax.extraction; assert not {'jax', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])

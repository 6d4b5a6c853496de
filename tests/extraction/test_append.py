"""Growing a store.

Rows and splits are added without touching a shard, once, and equal texts may be kept once.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from support.extraction_case import identity, make_case, run, tree, write_texts
from support.faulty_disk import FaultyDisk, Killed
from support.typed import present

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore, describe, read_manifest, verify
from glot_jax.store.layout import lock_folder
from glot_jax.store.lock import StoreLock


@pytest.fixture
def case(tmp_path):
    return make_case(
        tmp_path, {"train": 14, "validation": 5}, storage_dtype="float32", deterministic=True
    )


def more(config, folder, rows, seed=1, **options):
    """The command that appends random rows."""
    return dataclasses.replace(config, append=True, data=write_texts(folder, rows, seed), **options)


def rows_of(store, split):
    """(states and token ids of every text, label) of every row."""
    return [
        ([(hidden.copy(), ids.copy()) for hidden, ids in row.texts], row.label)
        for row in HiddenStore(store)[split]
    ]


def assert_same_rows(rows, expected):
    assert len(rows) == len(expected)
    for (texts, label), (others, other) in zip(rows, expected, strict=True):
        assert label == other
        assert len(texts) == len(others)
        for (hidden, ids), (hidden_too, ids_too) in zip(texts, others, strict=True):
            np.testing.assert_array_equal(hidden, hidden_too)
            np.testing.assert_array_equal(ids, ids_too)


def test_appended_rows_follow_the_others_and_no_shard_is_touched(case, tmp_path):
    run(case)
    before, first = identity(case.out), rows_of(case.out, "train")
    grown = more(case, tmp_path / "more", {"train": 9, "test": 4})
    assert "extended" in run(grown)
    run(dataclasses.replace(case, data=grown.data, out=tmp_path / "alone"))
    assert_same_rows(rows_of(case.out, "train"), first + rows_of(tmp_path / "alone", "train"))
    assert_same_rows(rows_of(case.out, "test"), rows_of(tmp_path / "alone", "test"))
    assert len(HiddenStore(case.out)["validation"]) == 5
    assert {file: stat for file, stat in identity(case.out).items() if file in before} == before
    assert verify(case.out) == []
    assert not lock_folder(case.out).exists()
    assert [append["rows"] for append in describe(case.out)["splits"]["train"]["appended"]] == [9]


def test_appending_is_done_once_and_can_be_repeated_with_other_rows(case, tmp_path):
    run(case)
    first, second = (
        more(case, tmp_path / "a", {"train": 4}),
        more(case, tmp_path / "b", {"train": 3}, seed=2),
    )
    run(first)
    content = tree(case.out)
    assert "holds these rows already" in run(first)
    assert tree(case.out) == content
    run(second)
    assert len(HiddenStore(case.out)["train"]) == 21
    assert "holds these rows already" in run(first)
    assert "holds these rows already" in run(second)
    assert verify(case.out) == []


def test_of_files_that_grew_at_the_end_only_the_end_is_added(case, tmp_path):
    run(case)
    grown = tmp_path / "grown"
    grown.mkdir()
    extra = write_texts(tmp_path / "more", {"train": 6}, seed=3)
    (grown / "train.jsonl").write_text(
        (case.data / "train.jsonl").read_text() + (extra / "train.jsonl").read_text()
    )
    (grown / "validation.jsonl").write_text((case.data / "validation.jsonl").read_text())
    config = dataclasses.replace(case, append=True, data=grown)
    run(config)
    assert [len(HiddenStore(case.out)[split]) for split in ("train", "validation")] == [20, 5]
    labels = [
        json.loads(line)["label"] for line in (grown / "train.jsonl").read_text().splitlines()
    ]
    assert present(HiddenStore(case.out)["train"].labels).tolist() == labels
    assert "holds these rows already" in run(config)


@pytest.mark.parametrize("how", ["kill", "power"])
def test_until_an_append_is_done_the_store_is_what_it_was(case, tmp_path, monkeypatch, how):
    run(case)
    pristine = tree(case.out)
    grown = more(case, tmp_path / "more", {"train": 9, "test": 4})
    with FaultyDisk(monkeypatch) as whole:
        run(grown)
    expected = tree(case.out)
    for call in (*range(3 if how == "kill" else 11, len(whole.calls), 41), len(whole.calls) - 1):
        for name in {*tree(case.out)} - {*pristine}:
            (case.out / name).unlink()
        for folder in sorted(case.out.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        for name, content in pristine.items():
            (case.out / name).write_bytes(content)
        with FaultyDisk(monkeypatch, call, how), pytest.raises(Killed):
            run(grown)
        rows = len(HiddenStore(case.out)["train"])
        assert rows in (14, 23)
        assert rows_of(case.out, "train")[13][1] == 1
        run(grown)
        assert tree(case.out) == expected, call
        assert not lock_folder(case.out).exists()


def test_an_unfinished_append_is_finished_before_anything_else(case, tmp_path, monkeypatch):
    run(case)
    grown = more(case, tmp_path / "more", {"train": 9})
    # Call 60 is in the middle of the shards.
    with FaultyDisk(monkeypatch, 60, "kill"), pytest.raises(Killed):
        run(grown)
    for other in (more(case, tmp_path / "other", {"train": 9}, seed=5), case):
        with pytest.raises(UsageError, match="an append that was begun must be finished first"):
            run(other)
    run(grown)
    assert len(HiddenStore(case.out)["train"]) == 23


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layers": (0,)}, "must hold states of the same recipe"),
        ({"label_column": None}, "labels from label"),
        ({"text_columns": ("label",)}, "texts from text"),
        (
            {"task": "cola", "text_columns": (), "label_column": None},
            "rows for this store must be of task custom",
        ),
        ({"storage_dtype": "float16"}, "storage_dtype"),
    ],
)
def test_what_does_not_fit_the_store_is_refused(case, tmp_path, options, match):
    run(case)
    before = tree(case.out)
    with pytest.raises(UsageError, match=match):
        run(more(case, tmp_path / "more", {"train": 3}, **options))
    assert tree(case.out) == before


def test_a_label_that_the_store_does_not_know_is_refused_by_line(case, tmp_path):
    run(case)
    config = more(case, tmp_path / "more", {"train": 3})
    with (config.data / "train.jsonl").open("a") as file:
        file.write('{"text": "the cat", "label": 2}\n')
    with pytest.raises(UsageError, match=r"train\.jsonl:4"):
        run(config)


def test_appending_needs_a_finished_store_and_its_first_command_is_told_so(case, tmp_path):
    with pytest.raises(UsageError, match="a store"):
        run(more(case, tmp_path / "more", {"train": 3}))
    run(case)
    run(more(case, tmp_path / "more", {"train": 3}))
    with pytest.raises(UsageError, match="whose train grew"):
        run(case)
    for options in ({"worker": "0/2"}, {"max_train_rows": 3}):
        with pytest.raises(UsageError, match="append"):
            dataclasses.replace(case, append=True, **options)


def test_damaged_rows_are_not_given_a_new_hash(case, tmp_path):
    """What an append copies of the store it copies under a new hash: it must be what was stored."""
    run(case)
    labels = case.out / "train/labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    before = tree(case.out)
    with pytest.raises(UsageError, match="labels.npy, whose content differs"):
        run(more(case, tmp_path / "more", {"train": 3}))
    assert tree(case.out) == before
    assert verify(case.out) == [str(labels)]


def test_two_appends_at_once_do_not_lose_one_another(case, tmp_path, monkeypatch):
    """The other one finishes between this one's look at the store and its lock."""
    run(case)
    first, second = (
        more(case, tmp_path / "a", {"test": 4}),
        more(case, tmp_path / "b", {"train": 3}, seed=2),
    )
    original = StoreLock.__enter__

    def entering(self):
        monkeypatch.setattr(StoreLock, "__enter__", original)
        run(first)
        return original(self)

    monkeypatch.setattr(StoreLock, "__enter__", entering)
    with pytest.raises(
        UsageError, match=r"another one extended meanwhile. Run the same command again"
    ):
        run(second)
    run(second)
    assert {split: len(HiddenStore(case.out)[split]) for split in HiddenStore(case.out)} == {
        "train": 17,
        "validation": 5,
        "test": 4,
    }
    assert verify(case.out) == []


def test_an_append_that_is_there_already_does_not_end_another_one(case, tmp_path, monkeypatch):
    run(case)
    done, begun = (
        more(case, tmp_path / "a", {"train": 3}),
        more(case, tmp_path / "b", {"train": 9}, seed=2),
    )
    run(done)
    with FaultyDisk(monkeypatch, 60, "kill"), pytest.raises(Killed):
        run(begun)
    with pytest.raises(UsageError, match="must be finished first"):
        run(done)
    run(begun)
    assert len(HiddenStore(case.out)["train"]) == 26
    assert verify(case.out) == []


@pytest.mark.parametrize("changed", ["label", "text"])
def test_a_file_that_grew_and_was_changed_is_refused_by_row(case, tmp_path, changed):
    """Taken for new rows, all of it would be stored once more."""
    run(case)
    before = tree(case.out)
    rows = [json.loads(line) for line in (case.data / "train.jsonl").read_text().splitlines()]
    rows[5] |= (
        {"label": 1 - rows[5]["label"]} if changed == "label" else {"text": "the the the mat"}
    )
    rows.append({"text": "a new row", "label": 0})
    (tmp_path / "grown").mkdir()
    (tmp_path / "grown/train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    with pytest.raises(
        UsageError, match="train with 1 of the 14 stored rows changed, the first of them row 5"
    ):
        run(dataclasses.replace(case, append=True, data=tmp_path / "grown"))
    assert tree(case.out) == before


def test_the_disk_needs_room_for_the_new_rows_alone(case, tmp_path, monkeypatch):
    run(case)
    asked = []
    monkeypatch.setattr(
        sys.modules["glot_jax.extraction.split_files"],
        "check_disk",
        lambda _out, tokens, *_: asked.append(tokens) or "",
    )
    (tmp_path / "grown").mkdir()
    extra = write_texts(tmp_path / "more", {"train": 1}, seed=3)
    (tmp_path / "grown/train.jsonl").write_text(
        (case.data / "train.jsonl").read_text() + (extra / "train.jsonl").read_text()
    )
    assert "1 to train" in run(dataclasses.replace(case, append=True, data=tmp_path / "grown"))
    stored = read_manifest(case.out).splits["train"]
    assert 0 < asked[0] < 3 * stored.tokens / stored.rows


# --------------------------------------------------------------------------------------------------
# Equal texts


def repeat_texts(case):
    """Every text of train twice more, in another order."""
    path = case.data / "train.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *reversed(lines), *lines]) + "\n")


def test_equal_texts_are_stored_once_and_every_row_reads_the_same(case, tmp_path):
    repeat_texts(case)
    once = dataclasses.replace(case, deduplicate=True, out=tmp_path / "once")
    run(case)
    run(once)
    assert_same_rows(rows_of(once.out, "train"), rows_of(case.out, "train"))
    split, plain = (read_manifest(out).splits["train"] for out in (once.out, case.out))
    assert split.rows == plain.rows == 42
    assert split.texts + present(split.duplicates) == plain.texts == 42
    assert split.texts <= 14
    assert plain.duplicates is None
    assert describe(once.out)["splits"]["train"]["duplicates"] == split.duplicates
    assert verify(once.out) == []


def test_appended_texts_that_are_there_already_are_not_stored_again(case, tmp_path):
    once = dataclasses.replace(case, deduplicate=True)
    run(once)
    before = read_manifest(once.out).splits["train"]
    (tmp_path / "more").mkdir()
    lines = (case.data / "train.jsonl").read_text().splitlines()
    (tmp_path / "more/train.jsonl").write_text(
        "\n".join([lines[3], '{"text": "nobody saw the mat", "label": 0}', lines[0]]) + "\n"
    )
    run(dataclasses.replace(once, append=True, data=tmp_path / "more"))
    after = read_manifest(once.out).splits["train"]
    assert (after.rows, after.texts, after.duplicates) == (
        before.rows + 3,
        before.texts + 1,
        present(before.duplicates) + 2,
    )
    rows = rows_of(once.out, "train")
    assert_same_rows([rows[14], rows[16]], [rows[3], rows[0]])


def test_training_reads_a_deduplicated_store(case, tmp_path):
    from glot_jax.config.train import PoolerConfig, TrainConfig
    from glot_jax.training import train

    repeat_texts(case)
    run(case)
    run(dataclasses.replace(case, deduplicate=True, out=tmp_path / "once"))
    scores = []
    readings: list[tuple[Path, Literal["device", "none"]]] = [
        (case.out, "device"),
        (tmp_path / "once", "device"),
        (tmp_path / "once", "none"),
    ]
    for store, cache in readings:
        config = TrainConfig(
            store=store,
            out=tmp_path / f"run-{len(scores)}",
            epochs=1,
            cache=cache,
            pooler=PoolerConfig("mean"),
        )
        train(config, quiet=True)
        scores.append((config.out / "metrics.jsonl").read_bytes())
    assert scores[0] == scores[1] == scores[2]

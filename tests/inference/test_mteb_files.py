"""Files of local tasks: what is read from them, and what is missed by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mteb", reason="the extra `mteb` is not installed")

from glot_jax.errors import UsageError
from glot_jax.inference.mteb_files import LOADERS, TaskFolder, sha256_of


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rows_have_their_columns_and_the_optional_ones_that_are_there(tmp_path):
    write(tmp_path / "qrels" / "test.jsonl", [{"a": 1, "b": 2, "c": 3}])
    folder = TaskFolder.open(tmp_path)
    assert list(folder.files) == ["qrels/test"]
    assert folder.columns("qrels/test") == {"a", "b", "c"}
    assert folder.rows("qrels/test", ("a",), ("b", "d")) == [{"a": 1, "b": 2}]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"without a \.jsonl"):
        TaskFolder.open(tmp_path)
    write(tmp_path / "test.jsonl", [{"a": 1}])
    folder = TaskFolder.open(tmp_path)
    with pytest.raises(UsageError, match="must have all of its files; got .* without train"):
        folder.rows("train", ("a",))
    with pytest.raises(UsageError, match=r"test\.jsonl:1 without b"):
        folder.rows("test", ("a", "b"))


def test_the_hash_is_of_names_and_contents(tmp_path):
    write(tmp_path / "one" / "test.jsonl", [{"a": 1}])
    write(tmp_path / "two" / "test.jsonl", [{"a": 1}])
    write(tmp_path / "three" / "train.jsonl", [{"a": 1}])
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "three")


def test_a_reranking_ranks_each_querys_own_texts_once(tmp_path):
    rows = [
        {"query": "q", "positive": ["x", "y"], "negative": ["z", "x"]},
        {"query": "nothing to tell apart", "positive": ["x"], "negative": []},
        {"query": "r", "pos": "z", "neg": "x"},
    ]
    write(tmp_path / "test.jsonl", rows)
    data = LOADERS["Reranking"](TaskFolder.open(tmp_path), ["test"], None)["default"]["test"]
    assert data["corpus"]["text"] == ["x", "y", "z"]
    assert data["queries"]["id"] == ["q0", "q2"]
    assert data["relevant_docs"] == {"q0": {"p0": 1, "p1": 1}, "q2": {"p2": 1}}
    assert data["top_ranked"] == {"q0": ["p0", "p1", "p2"], "q2": ["p2", "p0"]}


def test_a_judgement_of_a_passage_that_is_not_there_is_refused(tmp_path):
    write(tmp_path / "corpus.jsonl", [{"_id": "d0", "text": "a"}])
    write(tmp_path / "queries.jsonl", [{"_id": "q0", "text": "a"}])
    write(tmp_path / "qrels" / "test.jsonl", [{"query-id": "q0", "corpus-id": "d1", "score": 1}])
    with pytest.raises(UsageError, match="q0, d1"):
        LOADERS["Retrieval"](TaskFolder.open(tmp_path), ["test"], None)

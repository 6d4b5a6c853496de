"""What all formats share: where a row and its columns stand, and what is said of missing ones."""

from __future__ import annotations

import doctest

import pytest
from support.written_files import examples, refuses, task, write_all

from glot_jax.file_formats import records
from glot_jax.file_formats.records import Record


def shards(first: str, second: str, suffix: str = "csv") -> dict[str, str]:
    return {
        f"train-00000-of-00002.{suffix}": first,
        f"train-00001-of-00002.{suffix}": second,
    }


def test_the_examples_of_the_docstrings():
    tested = doctest.testmod(records)
    assert (tested.attempted, tested.failed) == (1, 0)


def test_a_missing_column_is_told_where_the_names_stand(tmp_path):
    write_all(tmp_path, {"train.csv": "sep=;\nText;label\na;0\nb;1\n"})
    with refuses("column 'text' must be in the data", "train.csv:2", "Did you mean 'Text'"):
        task(tmp_path)
    # JSON has no line of names: the row itself is where the column is missing.
    write_all(tmp_path / "rows", {"train.jsonl": [{"text": "a", "label": 0}, {"label": 1}]})
    with refuses("column 'text' must be in the data", "train.jsonl:2"):
        task(tmp_path / "rows")


def test_a_missing_column_of_glue_and_of_a_ranking_is_told_in_the_header(tmp_path):
    write_all(tmp_path / "mrpc", {"train.tsv": "Quality\t#1 ID\t#1 String\n1\t7\ta\n"})
    with refuses("column 'sentence2' must be in the data", "train.tsv:1"):
        task(tmp_path / "mrpc", "mrpc")
    write_all(tmp_path / "pairs", {"train.csv": "anchor,other\na,b\n"})
    with refuses("'pos' must be in the data", "train.csv:1"):
        task(tmp_path / "pairs", "embedding")


def test_a_missing_column_of_a_collection_is_told_in_the_header(tmp_path):
    collection = {
        "corpus.jsonl": [{"_id": "1", "text": "a"}],
        "queries.csv": "id,text\n1,q\n",
        "qrels/train.tsv": "query-id\tcorpus\tscore\n1\t1\t1\n",
    }
    write_all(tmp_path, collection)
    with refuses("column 'corpus-id' must be in the data", "train.tsv:1"):
        task(tmp_path, "embedding")
    write_all(tmp_path, {"qrels/train.tsv": "query-id\tcorpus-id\tscore\n1\t1\t1\n"})
    with refuses("column '_id' must be in the data", "queries.csv:1"):
        task(tmp_path, "embedding")


def test_the_parts_of_a_split_have_the_same_columns(tmp_path):
    write_all(tmp_path, shards("text,label\na,0\n", "n,label,text\n7,1,b\n"))
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]
    write_all(tmp_path, shards("text,label\na,0\n", "text,lable\nb,1\n"))
    with refuses(
        "the parts of a split must have the same columns",
        "train-00001-of-00002.csv:1: text, lable",
        "train-00000-of-00002.csv:1: text, label",
        "Give both the column 'label'",
    ):
        task(tmp_path)


def test_parts_without_a_header_may_differ(tmp_path):
    first = '{"text": "a", "label": 0}\n'
    write_all(tmp_path, shards(first, '{"text": "b", "label": 1, "n": 7}\n', "jsonl"))
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(("header", "location"), [("", "a.csv:7"), ("a.csv:1", "a.csv:1")])
def test_the_location_of_the_columns(header, location):
    assert Record("a.csv:7", {}, ["text"], header).columns_location == location

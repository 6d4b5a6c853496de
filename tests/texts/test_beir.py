"""BEIR's folders: queries and texts are joined by their judgements.

What is not there is counted.
"""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from support.written_files import examples, refuses, says, tabs, task, write_all

CORPUS = [
    {
        "_id": f"d{number}",
        "title": f"Title {number}" if number % 2 else "",
        "text": f"text {number}, é",
        "metadata": {},
    }
    for number in range(8)
]
QUERIES = [{"_id": f"q{number}", "text": f"query {number}"} for number in range(5)]
HEADER = "query-id corpus-id score"
TRAIN = tabs(
    HEADER, "q1 d1 1", "q0 d2 2", "q1 d0 1", "q0 d3 0", "q1 d99 1", "q2 d98 1", "q9 d1 1", "q3 d4 0"
)
EXPECTED = [
    ("query 1", "Title 1 text 1, é", "text 0, é", 2.0),
    ("query 0", "text 2, é", "Title 3 text 3, é", 1.0),
]


def texts(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def found(folder, split="train", **options):
    return examples(task(folder, "embedding", text_columns=(), **options), split)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_queries_and_texts_are_joined_by_their_judgements(tmp_path, suffix):
    files = {
        f"corpus.jsonl{suffix}": texts(CORPUS),
        f"queries.jsonl{suffix}": texts(QUERIES),
        f"qrels/train.tsv{suffix}": TRAIN,
        f"qrels/dev.tsv{suffix}": tabs(HEADER, "q4 d5 1"),
        "qrels/test.tsv": tabs(HEADER, "q4 d7 1"),
    }
    write_all(tmp_path, files)
    data = task(tmp_path, "embedding", text_columns=())
    assert list(data.splits) == ["train", "validation", "test"]
    assert examples(data) == EXPECTED
    assert examples(data, "validation") == [("query 4", "Title 5 text 5, é", 1.0)]
    assert data.spec.text_columns == ("query", "pos", "neg")
    assert says(data, 'title are read as title + " " + text: 4 of the judged ones')
    assert says(
        data,
        "train: judgements of texts or queries that are not in the collection, skipped: 3, the"
        " first of the query in ",
        "train.tsv",
    )
    assert says(data, "train: queries without a relevant text, left out: 3, ", "train.tsv")
    assert not says(data, "validation: ")
    # Splits are read side by side, as training and evaluation do.
    pairs = list(zip(data.splits["validation"], data.splits["test"], strict=True))
    assert [(first.texts[1], second.texts[1]) for first, second in pairs] == [
        ("Title 5 text 5, é", "Title 7 text 7, é")
    ]


def test_the_parts_may_have_any_format(tmp_path):
    write_all(
        tmp_path,
        {
            "queries.json": json.dumps(QUERIES),
            "qrels/train.csv": TRAIN.replace("\t", ","),
            "other.csv": "x",
        },
    )
    for index in range(2):
        path = tmp_path / f"corpus-{index:05d}-of-00002.parquet"
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(CORPUS[4 * index : 4 * index + 4]).drop(["metadata"]), path
        )
    assert found(tmp_path) == EXPECTED


def test_without_judged_negatives_there_is_no_column_of_them(tmp_path):
    write_all(
        tmp_path,
        {
            "corpus.jsonl": CORPUS,
            "queries.jsonl": QUERIES,
            "qrels/train.tsv": tabs(HEADER, "q1 d1 1", "q0 d2 2"),
        },
    )
    assert task(tmp_path, "embedding", text_columns=()).spec.text_columns == ("query", "pos")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (
            {"qrels/train.tsv": tabs(HEADER, "q1 d1 high")},
            ("a judgement must be a number", "train.tsv:2: score = 'high'"),
        ),
        (
            {"qrels/train.tsv": tabs("query corpus score", "q1 d1 1")},
            (
                "column 'query-id', 'corpus-id' must be in the data",
                "train.tsv:1",
                "Columns there: query",
            ),
        ),
        (
            {"qrels/train.tsv": tabs(HEADER, "x y 1")},
            ("queries and texts that exist", "train.tsv with none"),
        ),
        (
            {"qrels/train.tsv": "", "qrels/readme.md": ""},
            ("queries and texts that exist", "train.tsv"),
        ),
        (
            {"qrels/other.tsv": tabs(HEADER, "q1 d1 1")},
            ("qrels must hold the judgements of a split", "with other.tsv", "train.tsv"),
        ),
        (
            {"qrels/train.tsv": TRAIN, "corpus.jsonl": [*CORPUS, CORPUS[1]]},
            ("an identifier must be unique", "corpus.jsonl:9: 'd1' again"),
        ),
        (
            {"qrels/train.tsv": TRAIN, "corpus.jsonl": [{"_id": "d1", "text": 3}]},
            ("a text must be a string", "corpus.jsonl:1: text = 3"),
        ),
        (
            {"qrels/train.tsv": TRAIN, "corpus.jsonl": [{"_id": "d1", "body": "x"}]},
            ("column 'text' must be in the data", "corpus.jsonl:1", "there: _id, body"),
        ),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(tmp_path, files, parts):
    write_all(tmp_path, {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, **files})
    with refuses(*parts):
        found(tmp_path)


def test_texts_that_nobody_judged_are_not_kept(tmp_path):
    import tracemalloc

    many = "".join(
        json.dumps({"_id": f"x{number}", "text": "word " * 200}) + "\n" for number in range(4000)
    )
    write_all(
        tmp_path,
        {
            "corpus.jsonl": texts(CORPUS) + many,
            "queries.jsonl": texts(QUERIES),
            "qrels/train.tsv": TRAIN,
        },
    )
    tracemalloc.start()
    try:
        assert found(tmp_path) == EXPECTED
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # of 4 MB
    finally:
        tracemalloc.stop()

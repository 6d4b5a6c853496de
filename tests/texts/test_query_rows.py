"""Rows of a query with relevant and other texts.

What is read, and every mistake with its file and line.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import TASKS, TaskData, TaskSpec, open_task

ROW = {"query": "q", "pos": ["p1", "p2"], "neg": ["n"]}


def read(
    folder: Path, files: dict[str, list | str], spec: TaskSpec | None = None, **options
) -> TaskData:
    for name, rows in files.items():
        content = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(content, encoding="utf-8")
    return open_task(
        ExtractConfig(
            backbone="minilm", task="embedding", out=folder / "out", data=folder, **options
        ),
        spec=spec,
    )


def rows_of(data: TaskData, split: str = "train") -> list[tuple]:
    assert [example.row for example in data.splits[split]] == list(range(len(data.splits[split])))
    return [(example.texts, example.label) for example in data.splits[split]]


def test_lists_and_single_texts(tmp_path):
    rows = [
        ROW,
        {"query": "a", "pos": "b"},
        {"query": "", "pos": ["x"], "neg": None},
        {"pos": "y", "query": "z", "neg": "n", "other": 1},
    ]
    data = read(tmp_path, {"train.jsonl": rows})
    assert rows_of(data) == [
        (("q", "p1", "p2", "n"), 2.0),
        (("a", "b"), 1.0),
        (("", "x"), 1.0),
        (("z", "y", "n"), 1.0),
    ]
    assert data.spec == TASKS["embedding"]
    assert data.spec.metrics[0] == "ndcg@10"
    assert TaskSpec.from_json(json.loads(json.dumps(data.spec.to_json()))) == data.spec


def test_a_parquet_file_has_lists_too(tmp_path):
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([ROW, {**ROW, "neg": []}]), tmp_path / "train.parquet"
    )
    assert rows_of(read(tmp_path, {})) == [(("q", "p1", "p2", "n"), 2.0), (("q", "p1", "p2"), 2.0)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", "question,answer\nq,a\nr,b\n"),
        ("train.tsv", "answer\tquestion\na\tq\nb\tr\n"),
        ("train.jsonl", '{"question": "q", "answer": "a"}\n{"question": "r", "answer": ["b"]}\n'),
    ],
)
def test_two_columns_of_pairs(tmp_path, name, content):
    data = read(tmp_path, {name: content}, text_columns=("question", "answer"))
    assert rows_of(data) == [(("q", "a"), 1.0), (("r", "b"), 1.0)]
    assert data.spec.text_columns == ("question", "answer")
    assert data.spec.roles == ("query", "candidate")


def test_the_column_of_negatives_is_there_if_any_split_has_it(tmp_path):
    assert read(tmp_path, {"train.jsonl": [{"query": "a", "pos": "b"}]}).spec.text_columns == (
        "query",
        "pos",
    )
    data = read(tmp_path, {"test.jsonl": [ROW]})
    assert data.spec.text_columns == ("query", "pos", "neg")
    assert rows_of(data) == [(("a", "b"), 1.0)]
    assert list(data.splits) == ["train", "test"]


def test_a_sample_of_the_training_rows(tmp_path):
    data = read(
        tmp_path,
        {"train.jsonl": [{"query": str(row), "pos": "p"} for row in range(9)]},
        max_train_rows=4,
    )
    assert len(rows_of(data)) == 4
    assert data.notices == ("train: 4 of 9 rows, seed 42",)


def test_an_empty_field_of_a_csv_is_no_negative(tmp_path):
    data = read(tmp_path, {"train.csv": "a,b,c\nx,y,z\nu,v,\n"}, text_columns=("a", "b", "c"))
    assert rows_of(data) == [(("x", "y", "z"), 1.0), (("u", "v"), 1.0)]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (
            {"query": "q"},
            ["column 'pos' must be in the data", "train.jsonl:2", "Columns there: query"],
        ),
        ({"pos": ["q"]}, ["column 'query' must be in the data", "train.jsonl:2"]),
        ({**ROW, "pos": []}, ["at least one relevant text", "train.jsonl:2", "pos"]),
        ({**ROW, "pos": ""}, ["at least one relevant text", "train.jsonl:2", "pos"]),
        ({**ROW, "pos": None}, ["at least one relevant text", "train.jsonl:2", "pos"]),
        ({**ROW, "pos": ["a", 3]}, ["a text must be a string", "train.jsonl:2", "pos[1]", "3"]),
        ({**ROW, "neg": [None]}, ["a text must be a string", "train.jsonl:2", "neg[0]"]),
        ({**ROW, "neg": {"a": 1}}, ["a string or a list of strings", "train.jsonl:2", "neg"]),
        ({**ROW, "query": ["q"]}, ["a text must be a string", "train.jsonl:2", "query"]),
        ({**ROW, "pos": ["\ud800"]}, ["UTF-8", "train.jsonl:2", "pos[0]"]),
    ],
)
def test_a_wrong_row_is_reported_with_its_line(tmp_path, row, parts):
    with pytest.raises(UsageError, match="(?s)" + ".*".join(map(re.escape, parts))):
        read(tmp_path, {"train.jsonl": [ROW, row]})


def test_options_that_do_not_fit(tmp_path):
    with pytest.raises(UsageError, match="a query, a positive and perhaps a negative; got query"):
        read(tmp_path, {"train.jsonl": [ROW]}, text_columns=("query",))
    with pytest.raises(UsageError, match="column 'bad' must be in the data"):
        read(tmp_path, {}, text_columns=("query", "pos", "bad"))
    with pytest.raises(UsageError, match="must be read from its own columns.*--label-column"):
        read(tmp_path, {}, label_column="label")
    with pytest.raises(UsageError, match="task embedding needs local files"):
        open_task(ExtractConfig(backbone="minilm", task="embedding", out=tmp_path / "out"))


PASSAGES = {
    "query_id": "7",
    "query": "q",
    "positive_passages": [{"docid": "1", "title": "T", "text": "p"}, {"docid": "2", "text": "p2"}],
    "negative_passages": [{"docid": "3", "title": "", "text": "n"}],
}


@pytest.mark.parametrize(
    ("row", "texts", "relevant"),
    [
        (PASSAGES, ("q", "T p", "p2", "n"), 2),
        ({**PASSAGES, "negative_passages": []}, ("q", "T p", "p2"), 2),
        ({"anchor": "q", "positive": "p", "negative": "n"}, ("q", "p", "n"), 1),
        ({"anchor": "q", "positive": "p"}, ("q", "p"), 1),
        (
            {
                "anchor": "q",
                "positive": "p",
                "negative_10": "n10",
                "negative_2": "n2",
                "negative_1": None,
            },
            ("q", "p", "n2", "n10"),
            1,
        ),
        ({"query": "q", "pos": "p", "neg1": "a", "neg2": ["b", "c"]}, ("q", "p", "a", "b", "c"), 1),
        (
            {
                "question": "q",
                "answers": ["x"],
                "positive_ctxs": [{"title": "T", "text": "p"}],
                "negative_ctxs": [{"title": "N", "text": "n"}],
                "hard_negative_ctxs": [],
            },
            ("q", "T p", "N n"),
            1,
        ),
        (["q", "p", "n", "m"], ("q", "p", "n", "m"), 1),
        (["q", ["p", "p2"], ["n"]], ("q", "p", "p2", "n"), 2),
        (["q", "p"], ("q", "p"), 1),
        ({"query": "q", "pos": {"text": "p", "title": "T"}}, ("q", "T p"), 1),
        # Our own names stand for themselves, whatever else there is.
        (
            {
                "query": "q",
                "pos": "p",
                "positive": "x",
                "question": "y",
                "neg": "n",
                "negatives": ["z"],
            },
            ("q", "p", "n"),
            1,
        ),
    ],
)
@pytest.mark.parametrize("form", ["lines", "array", "parquet"])
def test_rows_as_other_tools_write_them(tmp_path, form, row, texts, relevant):
    if form == "parquet":
        if isinstance(row, list):
            row = {
                "query": row[0],
                "pos": row[1],
                "neg": [
                    text
                    for other in row[2:]
                    for text in ([other] if isinstance(other, str) else other)
                ],
            }
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist([row, row]), tmp_path / "train.parquet"
        )
        data = read(tmp_path, {})
    elif form == "array":
        data = read(tmp_path, {"train.json": json.dumps([row, row])})
    else:
        data = read(tmp_path, {"train.jsonl": [row, row]})
    assert rows_of(data) == [(texts, float(relevant))] * 2
    assert data.spec.text_columns in (("query", "pos"), ("query", "pos", "neg"))
    titles = [notice for notice in data.notices if 'title + " " + text' in notice]
    assert len(titles) == any(text.startswith(("T ", "N ")) for text in texts)


def test_negatives_in_columns_that_are_named(tmp_path):
    data = read(
        tmp_path, {"train.csv": "a,p,n1,n2\nq,x,y,z\nr,s,,t\n"}, text_columns=("a", "p", "n1", "n2")
    )
    assert rows_of(data) == [(("q", "x", "y", "z"), 1.0), (("r", "s", "t"), 1.0)]
    assert data.spec.text_columns == ("a", "p", "n1", "n2")


def test_queries_without_a_relevant_text_are_left_out_on_request(tmp_path):
    rows = [PASSAGES, {**PASSAGES, "positive_passages": []}, PASSAGES]
    with pytest.raises(
        UsageError, match="at least one relevant text.*train.jsonl:2.*--drop-unlabelled"
    ):
        read(tmp_path, {"train.jsonl": rows})
    data = read(tmp_path, {}, drop_unlabelled=True)
    assert len(rows_of(data)) == 2
    assert (
        sum(
            "rows without a relevant text are left out: 1, first" in notice
            and "train.jsonl:2" in notice
            for notice in data.notices
        )
        == 1
    )


def test_columns_that_nobody_knows_are_listed_with_those_that_are_known(tmp_path):
    with pytest.raises(
        UsageError,
        match=(
            "column 'query', 'pos' must be in the data.*--text-columns.*anchor.*"
            "Columns there: left, right"
        ),
    ):
        read(tmp_path, {"train.jsonl": [{"left": "a", "right": "b"}]})
    with pytest.raises(UsageError, match="a text must be a string.*train.jsonl:1.*pos\\[0\\]"):
        read(
            tmp_path, {"train.jsonl": [{"query": "a", "positive_passages": [{"title": "no text"}]}]}
        )


def test_rows_for_a_store_that_there_is(tmp_path):
    with_negatives = read(tmp_path, {"train.jsonl": [ROW]}).spec
    pairs = TaskSpec.from_json({**with_negatives.to_json(), "text_columns": ["query", "pos"]})
    more = [{"query": "a", "pos": "b"}]
    assert rows_of(read(tmp_path, {"train.jsonl": more}, spec=with_negatives)) == [
        (("a", "b"), 1.0)
    ]
    assert rows_of(read(tmp_path, {}, spec=pairs)) == [(("a", "b"), 1.0)]
    with pytest.raises(
        UsageError,
        match=(
            "rows for this store must be of task embedding, texts from query, pos; "
            "got --task embedding, query, pos, neg"
        ),
    ):
        read(tmp_path, {"train.jsonl": [ROW]}, spec=pairs)

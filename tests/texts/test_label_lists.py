"""Several classes a row, from lists and from strings with a separator."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer
from support.written_files import refuses

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts.label_lists import LabelListReader, label_rows, reader_of
from glot_jax.texts.tasks import TASKS, TaskSpec


def labels(data, split="train"):
    return [example.label for example in data.splits[split]]


def separated(*values):
    return "text,label\n" + "".join(f'a,"{value}"\n' for value in values)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_lists_are_several_classes_a_row(custom, suffix):
    rows = [["b", "a"], [], ["c"], ["a"]]
    data = custom({f"train.{suffix}": rows, f"validation.{suffix}": [["c", "a"], []]})
    assert data.spec.label_kind == "multilabel"
    assert data.spec.classes == ("a", "b", "c")
    assert data.spec.metrics == ("f1_micro", "f1_macro", "average_precision")
    assert data.spec.label_separator is None
    assert labels(data) == [(0, 1), (), (2,), (0,)]
    assert labels(data, "validation") == [(0, 2), ()]
    assert any("any of 3 classes a row; 1 of 4 rows have none" in line for line in data.notices)


def test_a_separator_says_what_a_list_says(custom):
    content = separated("b; a", "", "c", " a ")
    files = {"train.csv": content, "validation.jsonl": ["b; a", "", "c", "a"]}
    data = custom(files, label_separator=";")
    assert data.spec.label_separator == ";"
    assert labels(data) == [(0, 1), (), (2,), (0,)]
    assert labels(data, "validation") == labels(data)


def test_whole_numbers_are_in_their_order(custom):
    assert custom({"train.jsonl": [[10, 3], [3], []]}).spec.classes == ("3", "10")
    data = custom({"train.jsonl": ["10|3|03", "3"]}, label_separator="|")
    assert data.spec.classes == ("03", "3", "10")


def test_a_spec_with_a_separator_survives_json_and_others_keep_their_bytes(custom):
    spec = custom({"train.jsonl": ["a;b", "a"]}, label_separator=";").spec
    assert TaskSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert isinstance(reader_of(spec), LabelListReader)
    for other in TASKS.values():
        assert "label_separator" not in other.to_json()


def test_rows_without_a_label_are_none_of_no_class(custom):
    files = {"train.jsonl": [["a"], None, ["b"], []]}
    with refuses("labelled throughout", "train.jsonl:2: no label", "without one: 1, with one: 3"):
        custom(files)
    data = custom(files, drop_unlabelled=True)
    assert labels(data) == [(0,), (1,), ()]


def test_a_split_of_nothing_but_empty_cells_has_no_labels(custom):
    files = {"train.csv": separated("a;b", ""), "test.csv": separated("", "")}
    data = custom(files, label_separator=";")
    assert list(data.splits) == ["train"]
    assert any("test: skipped, none of its 2 rows" in line for line in data.notices)


@pytest.mark.parametrize(
    ("rows", "options", "parts"),
    [
        ([["a", 1], ["b"]], {}, ("of one type", "train.jsonl:1: ['a', 1]")),
        ([["a"], ["b"], [1]], {}, ("of one type", "str (first in", "train.jsonl:3")),
        ([[1.5], [2]], {}, ("of one type", "train.jsonl:1")),
        ([[True], [False]], {}, ("of one type", "train.jsonl:1")),
        ([["a"], ["b", "a", "b"]], {}, ("each of its classes once", "train.jsonl:2: 'b' twice")),
        ([["a"], ["b", " "]], {}, ("must not be empty", "train.jsonl:2")),
        ([["a"], ["b"], "c"], {}, ("a list in every row", "train.jsonl:3: 'c'")),
        ([["a"], ["a"], []], {}, ("two classes or more", "only a in train")),
        ([[], []], {}, ("two classes or more",)),
        ([["a"], ["\ud800"]], {}, ("encodable as UTF-8", "train.jsonl:2")),
        (["a", "b"], {"label_separator": ";"}, ("of some training row", "';' in none of 2 rows")),
        (["a;b", "a;"], {"label_separator": ";"}, ("must not be empty", "train.jsonl:2")),
        (["a;b", "b;a;b"], {"label_separator": ";"}, ("classes once", "train.jsonl:2: 'b'")),
        (["a;b", 3], {"label_separator": ";"}, ("a column of strings", "train.jsonl:2: 3")),
        ([["a"], ["b"]], {"label_separator": ";"}, ("a column of strings", "train.jsonl:1")),
        (["a", "b"], {"label_kind": "multilabel"}, ("a list in every row", "--label-separator")),
        ([["a"], ["b"]], {"label_kind": "classes"}, ("a number, a string", "train.jsonl:1")),
        ([None, None], {"label_separator": ";"}, ("needs labels in column 'label'",)),
    ],
)
def test_what_is_no_list_of_classes_is_refused(custom, rows, options, parts):
    with refuses(*parts):
        custom({"train.jsonl": rows}, **options)


def test_a_class_that_train_lacks_is_refused(custom):
    with refuses("those of the train split: a, b", "test.jsonl:2: 'c'"):
        custom({"train.jsonl": [["a"], ["b"]], "test.jsonl": [[], ["a", "c"]]})


def test_a_separator_needs_labels_of_ones_own(load):
    with refuses("--label-separator needs --task custom with --label-column"):
        load({"train.jsonl": [{"sentence": "a", "label": 1}]}, label_separator=";")
    for options in ({"label_separator": ""}, {"label_separator": ";", "label_kind": "classes"}):
        with pytest.raises(UsageError, match="label-separator"):
            ExtractConfig("b", "custom", "out", **options)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------
# In memory

LISTS = [["b", "a"], [], ["c"], ["a"]]
INDICES = [(0, 1), (), (2,), (0,)]


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    "y",
    [
        LISTS,
        list(map(tuple, LISTS)),
        list(map(set, LISTS)),
        objects(LISTS),
        pd.Series(LISTS),
        [np.array(row, str) for row in LISTS],
    ],
)
def test_lists_of_labels(y):
    several = label_rows(y, 4)
    assert several is not None
    assert several.classes.tolist() == ["a", "b", "c"]
    assert several.labels == INDICES


@pytest.mark.parametrize("make", [np.array, sparse.csr_matrix, pd.DataFrame, np.ndarray.tolist])
def test_indicators(make):
    matrix = MultiLabelBinarizer().fit_transform(LISTS)
    several = label_rows(make(matrix), 4)
    assert several is not None
    assert several.classes.tolist() == [0, 1, 2]
    assert several.labels == INDICES


@pytest.mark.parametrize(
    "y", [["a", "b"], np.array([["a"], ["b"]]), [0, 1], np.array([0.5, 1]), None, "ab"]
)
def test_one_label_a_row_is_no_list(y):
    assert label_rows(y, 2) is None


def test_lists_of_whole_numbers_are_in_their_order():
    several = label_rows([[10, 3], [3]], 2)
    assert several is not None
    assert several.classes.tolist() == [3, 10]
    assert several.labels == [(0, 1), (0,)]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([["a"], "b"], r"every text must have a list.*'b' in row 1"),
        ([["a"], [1]], "of one type.*int, str"),
        ([[0.5], [1.5, 2.5]], "of one type"),
        ([["a"], ["b", "b"]], "each of its classes once.*row 1"),
        ([["a"], []], "two classes or more"),
        ([["a"], ["b"], ["c"]], "2 texts and 3 lists"),
        (np.array([[0, 2], [1, 0]]), "of 0 and 1"),
        (np.zeros((3, 2)), "2 texts and 3 lists"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(y, message):
    with pytest.raises(UsageError, match=message):
        label_rows(y, 2)

"""What has no label:

NA and its like are gaps among numbers, and said where they stand among names.
"""

from __future__ import annotations

import pandas as pd
import pytest

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import open_task
from glot_jax.texts.survey import kind_of, spelled

GAPS = ["NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", "none", "\\N", "", " "]


def task(folder, labels, **options):
    folder.mkdir()
    rows = "".join(f"text {row},{label}\n" for row, label in enumerate(labels))
    (folder / "train.csv").write_text(f"text,label\n{rows}")
    return open_task(config(folder, **options))


def config(folder, **options):
    return ExtractConfig(
        backbone="b",
        task="custom",
        data=folder,
        out=folder / "out",
        text_columns=("text",),
        label_column="label",
        **options,
    )


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([".5", "1.2", "2.3", ".1"], "regression"),
        (["0", "1", "1", "0"], "classes"),
        (["TRUE", "FALSE", "TRUE"], "classes"),
    ],
)
def test_a_gap_among_numbers_is_no_class(tmp_path, gap, labels, kind):
    with pytest.raises(UsageError, match=r"train\.csv:3: no label.*--drop-unlabelled"):
        task(tmp_path / "refused", [labels[0], gap, *labels[1:]])
    data = task(tmp_path / "dropped", [labels[0], gap, *labels[1:]], drop_unlabelled=True)
    assert data.spec.label_kind == kind
    whole = task(tmp_path / "whole", labels)
    assert (data.spec, len(data.splits["train"])) == (whole.spec, len(labels))
    assert any("1" in line and "label" in line for line in data.notices)


def test_among_names_na_is_said_to_be_one_and_nan_is_none(tmp_path):
    labels = ["pos", "None", "neg", "pos"]
    data = task(tmp_path / "names", labels)
    assert data.spec.classes == ("None", "neg", "pos")
    assert any("1 rows say NA, null or None" in line for line in data.notices)
    data = task(tmp_path / "dropped", labels, drop_unlabelled=True)
    assert (data.spec.classes, len(data.splits["train"])) == (("neg", "pos"), 3)
    data = task(tmp_path / "asked", labels, drop_unlabelled=True, label_kind="classes")
    assert (data.spec.classes, data.notices[1:]) == (("None", "neg", "pos"), ())
    with pytest.raises(UsageError, match="no label"):
        task(tmp_path / "nan", ["pos", "nan", "neg"])
    data = task(tmp_path / "nan-class", ["pos", "nan", "neg"], label_kind="classes")
    assert data.spec.classes == ("nan", "neg", "pos")


def test_a_word_among_numbers_is_an_error_and_several_a_notice(tmp_path):
    with pytest.raises(UsageError, match=r"numbers or names, not both; got .*train\.csv:4"):
        task(tmp_path / "scores", [".5", "1.2", "?", "2.5"])
    data = task(tmp_path / "asked", [".5", "1.2", "?", "2.5"], label_kind="classes")
    assert len(data.spec.classes) == 4
    with pytest.raises(
        UsageError, match=r"numbers or names, not both; got .*train\.csv:4.*label-kind"
    ):
        task(tmp_path / "ints", ["0", "1", "?", "1"])
    data = task(tmp_path / "ages", ["1", "2", "3+", "1", "3+"])
    assert any("3 are numbers and 2 are names (first" in line for line in data.notices)


def test_nan_in_a_typed_file_is_a_gap(tmp_path):
    folder = tmp_path / "typed"
    folder.mkdir()
    pd.DataFrame({"text": ["a", "b", "c"], "label": [0.5, None, 1.5]}).to_parquet(
        folder / "train.parquet"
    )
    (folder / "validation.jsonl").write_text(
        '{"text": "a", "label": NaN}\n{"text": "b", "label": 0.7}\n'
    )
    with pytest.raises(UsageError, match="no label"):
        open_task(config(folder))
    data = open_task(config(folder, drop_unlabelled=True))
    assert [len(split) for split in data.splits.values()] == [2, 1]


def test_spellings_have_types():
    assert [kind_of(spelled(text)) for text in ("1", "1.5", "nan", "NA", "x", "true", "")] == [
        "int",
        "float",
        "null",
        "absent",
        "str",
        "truth",
        "missing",
    ]


@pytest.mark.parametrize(
    ("train", "other"),
    [
        (["True", "1", "False", "0"], ["1", "FALSE"]),
        (["True", "False"], ["1", "0"]),
        (["1", "0"], ["true", "False"]),
    ],
)
def test_true_and_1_are_one_class(tmp_path, train, other):
    folder = tmp_path / "data"
    task(folder, train)
    (folder / "dev.csv").write_text("text,label\n" + "".join(f"t,{label}\n" for label in other))
    data = open_task(config(folder))
    read = {name: [example.label for example in split] for name, split in data.splits.items()}
    assert read["train"] == [int(label in ("True", "1")) for label in train]
    assert read["validation"] == [1, 0]


def test_classes_that_hardly_differ_are_said(tmp_path):
    data = task(tmp_path / "data", ["pos", "pos ", "Pos", "neg"])
    assert any("classes that differ in case or blanks alone" in line for line in data.notices)
    assert any("'Pos' and 'pos' and 'pos '" in line for line in data.notices)

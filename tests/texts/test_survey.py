"""What has no label.

NA and its like are gaps among numbers, and said where they stand among names.
"""

from __future__ import annotations

import pandas as pd
import pytest
from support.written_files import labels_config, open_labels

from glot_jax.errors import UsageError
from glot_jax.texts import open_task

GAPS = ["NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", "none", "\\N", "", " "]


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
        open_labels(tmp_path / "refused", [labels[0], gap, *labels[1:]])
    data = open_labels(tmp_path / "dropped", [labels[0], gap, *labels[1:]], drop_unlabelled=True)
    assert data.spec.label_kind == kind
    whole = open_labels(tmp_path / "whole", labels)
    assert (data.spec, len(data.splits["train"])) == (whole.spec, len(labels))
    assert any("1" in line and "label" in line for line in data.notices)


def test_among_names_na_is_said_to_be_one_and_nan_is_none(tmp_path):
    labels = ["pos", "None", "neg", "pos"]
    data = open_labels(tmp_path / "names", labels)
    assert data.spec.classes == ("None", "neg", "pos")
    assert any("1 rows say NA, null or None" in line for line in data.notices)
    data = open_labels(tmp_path / "dropped", labels, drop_unlabelled=True)
    assert (data.spec.classes, len(data.splits["train"])) == (("neg", "pos"), 3)
    data = open_labels(tmp_path / "asked", labels, drop_unlabelled=True, label_kind="classes")
    assert (data.spec.classes, data.notices[1:]) == (("None", "neg", "pos"), ())
    with pytest.raises(UsageError, match="no label"):
        open_labels(tmp_path / "nan", ["pos", "nan", "neg"])
    data = open_labels(tmp_path / "nan-class", ["pos", "nan", "neg"], label_kind="classes")
    assert data.spec.classes == ("nan", "neg", "pos")


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
        open_task(labels_config(folder))
    data = open_task(labels_config(folder, drop_unlabelled=True))
    assert [len(split) for split in data.splits.values()] == [2, 1]

"""From --data and --validation-file to the source of every split."""

from __future__ import annotations

from support.written_files import LABELLED, examples, refuses, says, task, write_all

CSV = "text,label\na,0\nb,1\n"


def test_one_file_is_the_train_split(tmp_path):
    write_all(tmp_path, {"Reviews 2024.csv": CSV, "other.jsonl": [{"text": "z", "label": 1}]})
    data = task(tmp_path / "Reviews 2024.csv")
    assert examples(data) == [("a", 0), ("b", 1)]
    assert list(data.splits) == ["train"]
    assert says(data, "Reviews 2024.csv is the train split", "no validation split", "holdout")
    data = task(tmp_path / "Reviews 2024.csv", validation_file=tmp_path / "other.jsonl")
    assert (examples(data, "validation"), list(data.splits), data.notices) == (
        [("z", 1)],
        ["train", "validation"],
        (),
    )
    assert (
        task(tmp_path / "Reviews 2024.csv", text_columns=("text",), label_column=None).notices == ()
    )


def test_where_one_file_does_not_go(tmp_path):
    write_all(
        tmp_path,
        {
            "train.csv": CSV,
            "x.docx": "x",
            "e.jsonl": [{"premise": "a", "hypothesis": "b", "label": 0}],
        },
    )
    with refuses("--validation-file must stand beside --data FILE", "and the folder"):
        task(tmp_path, validation_file=tmp_path / "train.csv")
    with refuses("a data file must exist", "none.csv, which does not exist"):
        task(tmp_path / "train.csv", validation_file=tmp_path / "none.csv")
    with refuses("--data must be a folder or a file", "none.csv, which does not exist"):
        task(tmp_path / "none.csv")
    with refuses("unknown format of a data file", "'docx'", "csv"):
        task(tmp_path / "x.docx")
    # The names of the splits are the task's.
    data = task(tmp_path / "e.jsonl", "mnli", validation_file=tmp_path / "e.jsonl")
    assert list(data.splits) == ["train", "validation_matched"]
    assert list(task(tmp_path / "e.jsonl", "ax").splits) == ["test"]
    with refuses("--validation-file needs a task that is trained", "task ax"):
        task(tmp_path / "e.jsonl", "ax", validation_file=tmp_path / "e.jsonl")


def test_a_text_a_line(tmp_path):
    write_all(tmp_path, {"train.txt": "one\ttwo\n\nthree"})
    data = task(tmp_path, text_columns=("text",), label_column=None)
    assert [example.texts for example in data.splits["train"]] == [("one\ttwo",), ("",), ("three",)]
    assert says(data, "train.txt: its first line names no columns, so every line is a text")
    write_all(tmp_path, {"train.txt": "id\ttext\n1\tone\n"})
    data = task(tmp_path, text_columns=("text",), label_column=None)
    assert [example.texts for example in data.splits["train"]] == [("one",)]
    with refuses("needs labels in column 'label'", "columns there: id, text"):
        task(tmp_path, **LABELLED)

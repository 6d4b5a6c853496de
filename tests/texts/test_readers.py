"""Reading a task's files: what is written is read, and every mistake is reported with its file and
line.
"""

import csv
import json
import random
import re
import string
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import TASKS, Example, TaskSpec, open_task

COLA = [{"sentence": f"Sentence {row}.", "label": row % 2} for row in range(6)]
GOOD = '{"sentence": "a", "label": 1}'
FORMATS = ["jsonl", "csv", "tsv", "parquet"]


def write(path, rows):
    """Write dicts in the format of the suffix; str and bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, str | bytes):
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        lines = [list(rows[0]), *([str(row[name]) for name in rows[0]] for row in rows)]
        path.write_bytes("".join("\t".join(line) + "\n" for line in lines).encode())
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def read(folder, task="cola", **rest):
    return open_task(
        ExtractConfig(backbone="minilm", task=task, out=folder / "out", data=folder, **rest)
    )


@pytest.fixture
def load(tmp_path):
    """Write {file name: rows} and open them as a task."""

    def load(files, task="cola", **rest):
        for name, rows in files.items():
            write(tmp_path / name, rows)
        return read(tmp_path, task, **rest)

    return load


@pytest.fixture
def custom(load):
    """The same for a custom task with the columns text and label; values of a list become
    labels.
    """

    def custom(files, label_column="label", text_columns=("text",), **rest):
        files = {
            name: (
                [{"text": "t", "label": label} for label in rows]
                if isinstance(rows, list)
                else rows
            )
            for name, rows in files.items()
        }
        return load(files, "custom", text_columns=text_columns, label_column=label_column, **rest)

    return custom


def refuses(*parts):
    """The message has these parts, in this order."""
    return pytest.raises(UsageError, match="(?s)" + ".*".join(map(re.escape, parts)))


def texts(split):
    return [example.texts[0] for example in split]


def labels(split):
    return [example.label for example in split]


# --------------------------------------------------------------------------------------------------
# What is written is read


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_examples(load, suffix):
    data = load({f"train.{suffix}": COLA, f"validation.{suffix}": COLA[:2]})
    expected = [Example((row["sentence"],), row["label"], index) for index, row in enumerate(COLA)]
    assert list(data.splits["train"]) == expected
    assert list(data.splits["train"]) == expected  # and again
    assert all(type(label) is int for label in labels(data.splits["train"]))
    assert [(name, len(split)) for name, split in data.splits.items()] == [
        ("train", 6),
        ("validation", 2),
    ]
    assert data.spec == TASKS["cola"]
    assert data.notices == ()


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
line_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), max_size=30
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_text_survives_any_format(suffix, data):
    """Control characters, quotes, line breaks and all; a tsv has no way to write tabs and line
    breaks.
    """
    text = line_text if suffix == "tsv" else any_text
    rows = data.draw(
        st.lists(st.fixed_dictionaries({"a": text, "b": text, "y": st.integers(0, 2)}), min_size=1)
    )
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / f"train.{suffix}", [{"a": "first", "b": "", "y": 5}, *rows])
        task = read(Path(folder), "custom", text_columns=("b", "a"), label_column="y")
        found = [
            (*example.texts, task.spec.classes[int(example.label or 0)])
            for example in task.splits["train"]
        ]
    assert found == [("", "first", "5"), *((row["b"], row["a"], str(row["y"])) for row in rows)]
    assert task.spec.roles == ("a", "b")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "train.jsonl",
            '\ufeff{"sentence": "a", "label": 1}\r\n\r\n  \n{"sentence": "b", "label": 0}',
        ),
        ("train.csv", "\ufefflabel,sentence\r\n1,a\r\n\r\n0,b"),
        ("train.tsv", "\ufeffsentence\tlabel\r\na\t1\r\n\r\nb\t0"),
    ],
)
def test_byte_order_mark_crlf_blank_lines_and_a_missing_last_line_end(load, name, content):
    assert list(load({name: content}).splits["train"]) == [
        Example(("a",), 1, 0),
        Example(("b",), 0, 1),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('sentence,label\n"a ""quoted"", comma",1\n', 'a "quoted", comma'),
        ('sentence,label\n"two\r\nlines",1\n', "two\r\nlines"),
        ('sentence,label\n5" wide,1\n', '5" wide'),
        ("sentence,label\n,1\n", ""),
        ("sentence,label\n\0,1\n", "\0"),
    ],
)
def test_csv_quoting_is_rfc_4180(load, content, expected):
    assert texts(load({"train.csv": content}).splits["train"]) == [expected]


def test_tsv_knows_no_quotes(load):
    content = 'sentence\tlabel\n"He left\t1\n"Both"\t0\n\u2028\x0b\x85 x\t1\n'
    assert texts(load({"train.tsv": content}).splits["train"]) == [
        '"He left',
        '"Both"',
        "\u2028\x0b\x85 x",
    ]


def test_a_blank_line_is_an_empty_text_only_in_a_tsv_of_one_column(load):
    data = load(
        {"train.tsv": "t\nx\n\ny\n", "test.csv": 't\nx\n\n""\ny\n'}, "custom", text_columns=("t",)
    )
    assert texts(data.splits["train"]) == ["x", "", "y"]
    assert texts(data.splits["test"]) == ["x", "", "y"]


def test_jsonl_with_control_characters_emoji_and_line_separators(load):
    content = '{"sentence": "\0 \t \\u0000 👩‍🚀 \u2028 \x85", "label": 1}\n'
    assert texts(load({"train.jsonl": content}).splits["train"]) == ["\0 \t \0 👩‍🚀 \u2028 \x85"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_text_of_a_megabyte(load, suffix):
    long = "".join(random.Random(0).choices(string.ascii_letters + " ,'", k=1_000_000))
    assert texts(load({f"train.{suffix}": [{"sentence": long, "label": 1}]}).splits["train"]) == [
        long
    ]


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_are_streamed(load, suffix):
    rows = [{"sentence": f"{row:04d}" * 2500, "label": row % 2} for row in range(2400)]  # 24 MB
    load({f"train.{suffix}": rows[:2]})
    tracemalloc.start()
    try:
        data = load({f"train.{suffix}": rows})
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert sum(example.label or 0 for example in data.splits["train"]) == 1200
        assert tracemalloc.get_traced_memory()[1] - before < 12_000_000
    finally:
        tracemalloc.stop()


def test_only_the_task_s_splits_are_read_and_in_its_order(load):
    files = [
        "test_matched",
        "validation_mismatched",
        "validation_matched",
        "train",
        "validation",
        "dev",
    ]
    rows = [{"premise": "a", "hypothesis": "b", "label": 2}]
    data = load({f"{name}.jsonl": rows for name in files} | {"notes.txt": "x"}, "mnli")
    assert list(data.splits) == [
        "train",
        "validation_matched",
        "validation_mismatched",
        "test_matched",
    ]
    assert list(data.splits["train"]) == [Example(("a", "b"), 2, 0)]


def test_a_task_without_labels_needs_one_split_and_ignores_labels(load):
    data = load({"test.jsonl": [{"premise": "a", "hypothesis": "", "label": "who knows"}]}, "ax")
    assert list(data.splits["test"]) == [Example(("a", ""), None, 0)]


def test_reading_text_files_imports_no_framework_and_no_table_library(tmp_path):
    import subprocess

    write(tmp_path / "train.csv", COLA)
    code = (
        "import sys; from pathlib import Path\nfrom glot_jax.config import ExtractConfig; from"
        " glot_jax.texts import open_task\ntask = open_task(ExtractConfig(backbone='m',"
        f" task='cola', out=Path('x'), data=Path({str(tmp_path)!r})))\nassert"
        " len(list(task.splits['train'])) == 6\nprint([m for m in ('torch', 'jax', 'datasets',"
        " 'pyarrow', 'sklearn') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root
    )
    assert (found.stdout, found.returncode) == ("[]\n", 0), found.stderr


# --------------------------------------------------------------------------------------------------
# Files that are not as they should be


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        (
            "train.jsonl",
            f'{GOOD}\n\n{{"sentence": \n',
            ("one JSON object a line", "train.jsonl:3: Exp"),
        ),
        (
            "train.jsonl",
            '{"sentence": "a", "label": 1}\n["a", 1]\n',
            ("one JSON object a line", "train.jsonl:2: list"),
        ),
        ("train.jsonl", "[" * 200_000, ("one JSON object a line", "train.jsonl:1:")),
        (
            "train.jsonl",
            '{"sentence": "a", "label": ' + "1" * 5000 + "}",
            ("one JSON object a line", "train.jsonl:1:"),
        ),
        (
            "train.jsonl",
            GOOD.encode() + b'\n{"sentence": "\xff"}',
            ("are UTF-8", "train.jsonl:2: invalid", "byte 14"),
        ),
        ("train.csv", b"sentence,label\na,1\n\xe9,1\n", ("are UTF-8", "train.csv:3: invalid")),
        (
            "train.csv",
            'sentence,label\n"a\nb",1\nc,1,2\n',
            ("one field for each column", "train.csv:4: 3 fields", "has 2"),
        ),
        ("train.csv", 'sentence,label\na,1\n"b"c,0\n', ("RFC 4180", "train.csv:3: ")),
        ("train.csv", 'sentence,label\na,1\n"b,0\nc,1\n', ("RFC 4180", "train.csv:3: ")),
        (
            "train.tsv",
            "sentence\tlabel\na\t1\nb\n",
            ("one field for each column", "train.tsv:3: 1 fields"),
        ),
        (
            "train.csv",
            "sentence,label,label\na,1,1\n",
            ("names are unique", "train.csv:1: 'label' more than once"),
        ),
        ("train.tsv", "x\tx\na\t1\n", ("names are unique", "train.tsv:1: 'x'")),
        (
            "train.csv",
            "text,label\na,1\n",
            ("column 'sentence' is missing", "train.csv:1", "text, label"),
        ),
        ("train.tsv", "gj04\t2\t\tOur friends.\n" * 2, ("column 'sentence'", "tsv:1", "gj04, 2, ")),
        (
            "train.jsonl",
            GOOD + '\n{"label": 1}',
            ("column 'sentence' is missing", "jsonl:2", "there: label"),
        ),
        (
            "train.parquet",
            b"PAR1 and then nothing",
            ("can be read by pyarrow", "train.parquet after row 0"),
        ),
        (
            "train.parquet",
            [{"text": "a", "label": 1}],
            ("column 'sentence' is missing", "parquet:row 1", "text, label"),
        ),
        (
            "train.parquet",
            [{"text": "a"}],
            ("column 'sentence' is missing", "train.parquet:row 1", "there: text"),
        ),
        (
            "train.parquet",
            [*COLA[:1], {"sentence": None, "label": 1}],
            ("is a string", ":row 2: sentence = None"),
        ),
        (
            "train.jsonl",
            [*COLA[:1], {"sentence": 7, "label": 1}],
            ("is a string", "jsonl:2: sentence = 7"),
        ),
        (
            "train.jsonl",
            [{"sentence": None, "label": 1}],
            ("a text is a string", "jsonl:1: sentence = None"),
        ),
        (
            "train.jsonl",
            [{"sentence": ["a"], "label": 1}],
            ("a text is a string", "jsonl:1: sentence = ['a']"),
        ),
        (
            "train.jsonl",
            '{"sentence": "\\ud83d", "label": 1}',
            ("written as UTF-8", "jsonl:1: sentence holds half"),
        ),
        ("train.jsonl", "\n\n", ("at least one row", "train.jsonl with none")),
        ("train.csv", "", ("at least one row", "train.csv with none")),
        ("train.csv", "sentence,label\n", ("at least one row", "train.csv with none")),
        ("train.tsv", "sentence\tlabel\n\n", ("at least one row", "train.tsv with none")),
        ("train.parquet", [{"sentence": "a", "label": 1}], ()),
    ],
)
def test_a_broken_file_is_reported_with_its_line(load, name, content, parts):
    if not parts:  # the control: the same call takes a good file
        assert len(load({name: content}).splits["train"]) == 1
        return
    with refuses(*parts):
        load({name: content})


def test_an_empty_parquet_file_and_duplicate_columns(tmp_path):
    path = tmp_path / "train.parquet"
    schema = pyarrow.schema([("sentence", pyarrow.string()), ("label", pyarrow.int64())])
    pyarrow.parquet.write_table(schema.empty_table(), path)
    with refuses("at least one row", "train.parquet with none"):
        read(tmp_path)
    columns = [pyarrow.array(["a"]), pyarrow.array([1]), pyarrow.array([1])]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(columns, ["sentence", "label", "label"]), path
    )
    with refuses("column names are unique", "train.parquet: 'label'"):
        read(tmp_path)


def test_a_later_split_is_checked_before_the_first_example_is_served(load):
    with refuses("a text is a string", "validation.jsonl:1"):
        load({"train.jsonl": COLA, "validation.jsonl": [{"sentence": 1, "label": 1}]})


def test_folders_and_files_that_are_not_there(load, tmp_path):
    with refuses(
        "--data is a folder", "nowhere", "{train,validation,test}.{jsonl,csv,tsv,parquet}"
    ):
        read(tmp_path / "nowhere")
    with refuses("--data holds {train,validation,test}.{jsonl,csv,tsv,parquet}", "with eval.tsv"):
        load({"eval.tsv": "x"})
    with refuses("task cola needs a train split", "validation.jsonl", "train.jsonl"):
        load({"validation.jsonl": COLA})
    with refuses("a split is one file", "train.csv and ", "train.jsonl", "Keep one"):
        load({"train.jsonl": COLA, "train.csv": COLA})


def test_columns_belong_to_custom_only(load):
    with refuses(
        "cola fixes its columns: sentence", "--text-columns and --label-column", "--task custom"
    ):
        load({"train.jsonl": COLA}, text_columns=("sentence",), label_column="label")
    with refuses("unknown task", "'kola'", "cola"):
        load({}, "kola")
    with refuses(
        "--task custom needs --text-columns", "Columns of", "train.jsonl: sentence, label"
    ):
        load({"train.jsonl": COLA}, "custom")


def test_the_columns_of_a_parquet_file_are_listed(load):
    with refuses("--task custom needs --text-columns", "train.parquet: sentence, label"):
        load({"train.parquet": COLA}, "custom")


# --------------------------------------------------------------------------------------------------
# Found by tests/faults/test_readers.py


def parquet(tmp_path, *columns, **rest):
    names, arrays = zip(*columns, strict=True)
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(list(arrays), list(names)), tmp_path / "train.parquet", **rest
    )
    return tmp_path


@pytest.mark.parametrize(
    "values",
    [
        pyarrow.array([0, 2**62], pyarrow.timestamp("us")),
        pyarrow.array([0, 2**31 - 1], pyarrow.date32()),
        pyarrow.array([0, 2**62], pyarrow.duration("s")),
        pyarrow.Array.from_buffers(
            pyarrow.string(),
            2,
            [None, *map(pyarrow.py_buffer, [b"\0\0\0\0\1\0\0\0\2\0\0\0", b"a\xff"])],
        ),
    ],
)
def test_a_value_that_python_cannot_hold_is_reported_with_its_row_and_column(tmp_path, values):
    folder = parquet(tmp_path, ("sentence", pyarrow.array(["a", "b"])), ("label", values))
    with refuses("a value of a .parquet file can be read", "train.parquet:row 2: label: "):
        read(folder)


def test_a_column_that_nobody_wants_is_not_decoded(tmp_path):
    columns = [
        ("date", pyarrow.array([2**62, 0], pyarrow.timestamp("us"))),
        ("sentence", pyarrow.array(["a", "b"])),
    ]
    data = read(parquet(tmp_path, *columns), "custom", text_columns=("sentence",))
    assert texts(data.splits["train"]) == ["a", "b"]
    with refuses("column 'text' is missing", "train.parquet:row 1", "date, sentence"):
        read(tmp_path, "custom", text_columns=("text",))
    with refuses("--task custom needs --text-columns", "train.parquet: date, sentence"):
        read(tmp_path, "custom")


def test_a_damaged_page_is_noticed_by_its_checksum(tmp_path):
    columns = [("sentence", pyarrow.array(["abcdefgh", "b"])), ("label", pyarrow.array([0, 1]))]
    parquet(
        tmp_path,
        *columns,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    path = tmp_path / "train.parquet"
    assert path.read_bytes().count(b"abcdefgh") == 1
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abcdefgi"))
    with refuses("can be read by pyarrow", "train.parquet after row 0: ", "checksum"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"sentence": "a", "label": 1, "label": 0}', "train.jsonl:1: 'label' more than once"),
        (
            GOOD + '\n{"sentence": "a", "sentence": "b", "label": 1, "label": 1}',
            "jsonl:2: 'label', 'sentence' more",
        ),
    ],
)
def test_a_json_object_has_each_name_once(load, content, place):
    with refuses("column names are unique", place):
        load({"train.jsonl": content})
    assert (
        len(
            load({"train.jsonl": '{"sentence": "a", "label": 1, "x": {"y": 1, "y": 2}}'}).splits[
                "train"
            ]
        )
        == 1
    )


def test_a_json_error_counts_the_lines_of_the_file_only(load):
    with refuses("train.jsonl:2: Expecting ',' delimiter at character 16 of the line"):
        load({"train.jsonl": GOOD + '\n{"sentence": 1 2}'})


@pytest.mark.parametrize("rest", ["x", " x", ".", "e5"])
def test_a_million_digits_take_no_time(custom, rest):
    """They took hours: a pattern tried every way to cut the digits in two."""
    start = time.process_time()
    with refuses("train.csv"):
        custom({"train.csv": f"text,label\na,{'9' * 1_000_000}{rest}\n"})
    assert time.process_time() - start < 5


def test_a_header_of_a_million_columns_takes_no_time(load):
    start = time.process_time()
    with refuses("column names are unique", "train.csv:1: '' more than once"):
        load({"train.csv": "," * 1_000_000 + "\n"})
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("train.csv", "x" * 1_000_000 + ",label\na,1\n", "'xxx"),
        ("train.csv", "\x1b[31msentence,label\na,1\n", "'\\x1b[31msentence'"),
        ("train.csv", " sentence,,label\na,b,1\n", "' sentence', '', label"),
        ("train.tsv", "sentence\tla\rbel\na\n", "sentence, 'la\\rbel'"),
        ("train.jsonl", '{"\\ud83d": 1}', "'\\ud83d'"),
        ("train.jsonl", [{str(number): 1 for number in range(10_000)}], "18, 19 and 9980 more"),
        ("train.jsonl", [{"sentence": ["x" * 1_000_000], "label": 1}], "sentence = ['xxx"),
        ("train.jsonl", [{"sentence": "a", "label": "x" * 1_000_000}], ":1: 'xxx"),
        ("train.csv", [{"sentence": "a", "label": "x\x1b" * 100_000}], ":2: 'x\\x1b"),
    ],
)
def test_a_message_is_short_and_holds_no_control_characters(load, name, content, shown):
    with refuses(shown) as caught:
        load({name: content})
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def test_a_notice_quotes_odd_column_names(load):
    (notice,) = load({"train.jsonl": COLA, "test.tsv": "sentence\t\x1b\na\t1\n"}).notices
    assert notice.endswith(r"columns there: sentence, '\x1b')")


def test_a_class_name_can_be_written(custom):
    with refuses(
        "a label can be written as UTF-8", "train.jsonl:2: '\\ud83d' holds half of a surrogate pair"
    ):
        custom({"train.jsonl": ["a", "\ud83d"]})


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ([1, 1], ("two classes or more", "only 1 in train", "train.jsonl)")),
        ([0.5, 0.5], ("labels that differ", "0.5 in every row of train", "train.jsonl)")),
    ],
)
def test_labels_that_do_not_differ_are_reported_with_their_file(custom, labels, parts):
    with refuses(*parts):
        custom({"train.jsonl": labels})


def test_a_file_that_cannot_be_read_is_reported(load, monkeypatch):
    load({"train.jsonl": COLA})

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with refuses(
        "the files of --data can be read", "train.jsonl, after line 0: [Errno 13] Permission denied"
    ):
        load({})


# --------------------------------------------------------------------------------------------------
# Labels of a task that fixes them


@pytest.mark.parametrize(
    ("written", "label"), [(1, 1), (0, 0), (1.0, 1), ("acceptable", 1), ("unacceptable", 0)]
)
def test_spellings_of_a_class(load, written, label):
    found = labels(load({"train.jsonl": [{"sentence": "a", "label": written}]}).splits["train"])
    assert found == [label]
    assert type(found[0]) is int


@pytest.mark.parametrize(
    ("written", "label"), [("1", 1), (" 0 ", 0), ("1.0", 1), ("acceptable", 1)]
)
def test_spellings_of_a_class_in_a_csv(load, written, label):
    assert labels(load({"train.csv": [{"sentence": "a", "label": written}]}).splits["train"]) == [
        label
    ]


@pytest.mark.parametrize(
    "wrong", [2, -2, 0.5, "1", "yes", True, [1], {"a": 1}, float("inf"), 10**400]
)
def test_what_is_no_class_is_refused(load, wrong):
    with refuses(
        "class from 0 to 1 or its name (0 = unacceptable, 1 = acceptable)", "train.jsonl:3: "
    ):
        load({"train.jsonl": [*COLA[:2], {"sentence": "a", "label": wrong}]})


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("2", "2"),
        ("0.5", "0.5"),
        ("yes", "'yes'"),
        ("inf", "inf"),
        ("1_0", "'1_0'"),
        ("١", "'١'"),
        ("9" * 5000, "inf"),
    ],
)
def test_what_is_no_class_in_a_csv_is_refused(load, wrong, shown):
    with refuses("class from 0 to 1", f"train.csv:2: {shown}"):
        load({"train.csv": [{"sentence": "a", "label": wrong}]})


def pair(label):
    return {"sentence1": "a", "sentence2": "b", "label": label}


@pytest.mark.parametrize("suffix", FORMATS)
def test_scores_are_floats_within_their_range(load, suffix):
    found = labels(
        load({f"train.{suffix}": [pair(0.0), pair(5.0), pair(3.25)]}, "stsb").splits["train"]
    )
    assert found == [0.0, 5.0, 3.25]
    assert all(type(label) is float for label in found)
    place = {"jsonl": "2", "csv": "3", "tsv": "3", "parquet": "row 2"}[suffix]
    with refuses("number from 0 to 5", f"train.{suffix}:{place}: 5.5"):
        load({f"train.{suffix}": [pair(5.0), pair(5.5)]}, "stsb")


@pytest.mark.parametrize("wrong", [float("inf"), "3", True, 10**400])
def test_what_is_no_score_is_refused(load, wrong):
    with refuses("label of stsb is a finite number", "train.jsonl:2: "):
        load({"train.jsonl": [pair(4), pair(wrong)]}, "stsb")


NO_LABELS = [
    [{"sentence": "a", "label": -1}] * 3,
    [{"sentence": "a", "label": None}] * 3,
    [{"sentence": "a"}] * 3,
    [{"sentence": "a", "label": ""}, {"sentence": "a"}, {"sentence": "a", "label": -1.0}],
]


@pytest.mark.parametrize("rows", NO_LABELS)
def test_a_split_without_any_label_is_skipped_with_a_notice(load, rows):
    data = load({"train.jsonl": COLA, "test.jsonl": rows})
    assert list(data.splits) == ["train"]
    assert len(data.notices) == 1
    assert data.notices[0].startswith("test: skipped, none of its 3 rows has a label")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.csv", "sentence,label\na,-1\nb,\n"),
        ("test.tsv", "index\tsentence\n0\ta\n1\tb\n"),
        ("test.parquet", [{"sentence": "a", "label": -1}, {"sentence": "b", "label": -1}]),
        ("test.parquet", [{"sentence": "a"}, {"sentence": "b"}]),
    ],
)
def test_the_same_in_the_other_formats(load, name, content):
    data = load({"train.jsonl": COLA, name: content})
    assert list(data.splits) == ["train"]
    assert "none of its 2 rows" in data.notices[0]


def test_a_notice_tells_a_missing_column_from_missing_labels(load):
    files = {
        "train.jsonl": COLA,
        "validation.csv": "sentence,lable\na,1\n",
        "test.jsonl": NO_LABELS[0],
    }
    validation, test = load(files).notices
    assert "has no column 'label'; columns there: sentence, lable" in validation
    assert "all are empty, null or -1" in test


@pytest.mark.parametrize("rows", NO_LABELS)
def test_a_train_split_without_labels_is_an_error(load, rows):
    with refuses("train split needs labels in column 'label'", "train.jsonl"):
        load({"train.jsonl": rows})


@pytest.mark.parametrize("gap", [-1, -1.0, None, ""])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_gap_among_labels_is_an_error_with_its_line_and_counts(load, gap, split):
    files = {
        "train.jsonl": COLA,
        f"{split}.jsonl": [*COLA[:4], *[{"sentence": "a", "label": gap}] * 2],
    }
    counts = f"rows of {split} without one: 2, with one: 4"
    with refuses("labelled throughout or not at all", f"{split}.jsonl:5: no label", counts):
        load(files)


# --------------------------------------------------------------------------------------------------
# Labels of a custom task


@pytest.mark.parametrize(
    ("written", "classes", "read_back"),
    [
        ([7, 3, 10, 3], ("3", "7", "10"), [1, 0, 2, 0]),
        (["pos", "neg", "pos"], ("neg", "pos"), [1, 0, 1]),
        ([-1, 1, -1], ("-1", "1"), [0, 1, 0]),
        ([True, False], ("false", "true"), [1, 0]),
        (["1", "01"], ("01", "1"), [1, 0]),
    ],
)
def test_custom_classes(custom, written, classes, read_back):
    data = custom({"train.jsonl": written, "test.jsonl": written[::-1]})
    metrics = ("accuracy", "f1") if len(classes) == 2 else ("accuracy",)
    assert (data.spec.label_kind, data.spec.classes, data.spec.metrics) == (
        "classes",
        classes,
        metrics,
    )
    assert labels(data.splits["train"]) == read_back
    assert labels(data.splits["test"]) == read_back[::-1]
    assert TaskSpec.from_json(json.loads(json.dumps(data.spec.to_json()))) == data.spec


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("written", "kind", "classes"),
    [
        (["7", "3", "10"], "classes", ("3", "7", "10")),
        (["07", "7", "3"], "classes", ("3", "7")),
        (["1", "2.5", "1e-3"], "regression", ()),
        (["1", "2.5", "high"], "classes", ("1", "2.5", "high")),
        (["1_0", "1"], "classes", ("1", "1_0")),
        (["true", "false"], "classes", ("false", "true")),
    ],
)
def test_custom_labels_of_a_textual_file_are_typed_by_the_whole_column(
    custom, suffix, written, kind, classes
):
    spec = custom({f"train.{suffix}": written}).spec
    assert (spec.label_kind, spec.classes) == (kind, classes)


def test_a_name_in_one_csv_makes_names_of_all(custom):
    data = custom({"train.csv": ["01", "x", "1"], "test.csv": ["1", "01"]})
    assert data.spec.classes == ("01", "1", "x")
    assert labels(data.splits["test"]) == [1, 0]


def test_custom_scores(custom):
    data = custom({"train.jsonl": [0, 2.5, 1], "validation.jsonl": [-4, 9.5]})
    assert (data.spec.label_kind, data.spec.label_range) == ("regression", (0.0, 2.5))
    assert data.spec.metrics == ("spearman", "pearson")
    assert labels(data.splits["train"]) == [0.0, 2.5, 1.0]
    assert labels(data.splits["validation"]) == [-4.0, 9.5]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_score_among_classes_is_an_error_with_its_line(custom, suffix):
    line = {"jsonl": 2, "csv": 3}[suffix]
    with refuses(
        "classes are those of the train split: 1, 2",
        f"test.{suffix}:{line}: 1.5",
        "--label-kind regression",
    ):
        custom({"train.jsonl": [1, 2], f"test.{suffix}": [1.0, 1.5]})


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (
            {"train.jsonl": [1, 2, "a"]},
            ("two label types in one column", "int (", "jsonl:1) and str (first", "jsonl:3)"),
        ),
        (
            {"train.jsonl": [0.5, "a"]},
            ("two label types in one column", "float (first", "jsonl:2)"),
        ),
        (
            {"train.jsonl": [True, 2]},
            ("two label types in one column", "bool (first", "int (first in", "jsonl:2)"),
        ),
        (
            {"train.jsonl": ["a", "b"], "test.jsonl": ["a", 1]},
            ("two label types", "str (", "int (first", "test.jsonl:2)"),
        ),
        (
            {"train.csv": ["a", "1"], "test.jsonl": [1]},
            ("two label types", "str (first in", "train.csv:", "test.jsonl:1)"),
        ),
        (
            {"train.jsonl": ["a", [1]]},
            ("a label is a number, a string, true or false", "train.jsonl:2"),
        ),
        (
            {"train.jsonl": ["a", "b"], "test.jsonl": ["a", "c"]},
            ("those of the train split: a, b", "test.jsonl:2: 'c'"),
        ),
        (
            {"train.jsonl": [1, 2], "validation.jsonl": [2, 3]},
            ("train split: 1, 2", "validation.jsonl:2: 3"),
        ),
        (
            {"train.jsonl": [1, 2], "validation.jsonl": [2, -1]},
            ("train split: 1, 2", "validation.jsonl:2: -1"),
        ),
        (
            {"train.jsonl": [1, None, 2]},
            ("labelled throughout", "train.jsonl:2: no label", "without one: 1, with one: 2"),
        ),
        ({"train.jsonl": ["a", "", "b"]}, ("labelled throughout", "train.jsonl:2: no label")),
        ({"train.csv": ["a", "", "b"]}, ("labelled throughout", "train.csv:3: no label")),
        (
            {"train.jsonl": [1, 2], "test.jsonl": [1, None]},
            ("labelled throughout", "test.jsonl:2: no label"),
        ),
        ({"train.jsonl": [0.5, float("nan")]}, ("labelled throughout", "train.jsonl:2: no label")),
        ({"train.csv": ["0.5", "inf"]}, ("a finite number", "train.csv:3: inf")),
        (
            {"train.jsonl": [0.5, 1.5], "test.jsonl": [0.5, float("-inf")]},
            ("a finite number", "test.jsonl:2: -inf"),
        ),
        ({"train.jsonl": [0.5, 0.5]}, ("regression needs labels that differ", "0.5 in every row")),
        ({"train.jsonl": [1, 1]}, ("two classes or more", "only 1 in train")),
        ({"train.jsonl": [None, None]}, ("train split needs labels in column 'label'",)),
        (
            {"train.jsonl": '{"text": "a"}\n'},
            ("needs labels in column 'label'", "columns there: text"),
        ),
        ({"test.jsonl": [1, 2]}, ("task custom needs a train split", "test.jsonl")),
    ],
)
def test_custom_labels_that_are_refused(custom, files, parts):
    with refuses(*parts):
        custom(files)


@pytest.mark.parametrize("train", [["a", "b"], [0, 1], [0.5, 1.5], [True, False]])
@pytest.mark.parametrize("test", [[-1, -1], [None, None], [-1, None]])
def test_a_custom_split_without_labels_is_skipped(custom, train, test):
    data = custom({"train.jsonl": train, "test.jsonl": test})
    assert list(data.splits) == ["train"]
    assert "test: skipped, none of its 2 rows has a label" in data.notices[0]


@pytest.mark.parametrize(("train", "label"), [([-1, 1], 0), ([-2.0, 0.5], -1.0)])
def test_minus_one_is_a_custom_label_where_train_says_so(custom, train, label):
    assert labels(custom({"train.jsonl": train, "test.jsonl": [-1, -1]}).splits["test"]) == [
        label,
        label,
    ]


def test_custom_without_label_column_stores_texts_of_any_split(custom):
    rows = '{"a": "x", "b": "y", "c": "z", "label": 1}\n'
    data = custom({"test.jsonl": rows}, label_column=None, text_columns=("c", "a", "b"))
    assert list(data.splits["test"]) == [Example(("z", "x", "y"), None, 0)]
    assert (data.spec.label_kind, data.spec.roles, data.spec.metrics) == (
        "none",
        ("text0", "text1", "text2"),
        (),
    )


# --------------------------------------------------------------------------------------------------
# Samples


def many(rows):
    return [{"sentence": f"{row}", "label": row % 2} for row in range(rows)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sample_is_seeded_ordered_and_without_repeats(load, suffix):
    files = {f"train.{suffix}": many(100), f"validation.{suffix}": many(50)}
    data = load(files, max_train_rows=30)
    numbers = [int(text) for text in texts(data.splits["train"])]
    assert len(numbers) == len(set(numbers)) == len(data.splits["train"]) == 30
    assert numbers == sorted(numbers) != list(range(30))
    assert labels(data.splits["train"]) == [number % 2 for number in numbers]
    assert [example.row for example in data.splits["train"]] == list(range(30))
    assert data.notices == ("train: 30 of 100 rows, seed 42",)
    assert len(data.splits["validation"]) == 50
    assert texts(load(files, max_train_rows=30).splits["train"]) == [
        str(number) for number in numbers
    ]
    assert texts(load(files, max_train_rows=30, sample_seed=7).splits["train"]) != [
        str(number) for number in numbers
    ]


@pytest.mark.parametrize("limit", [100, 101])
def test_a_limit_that_is_not_reached_changes_nothing(load, limit):
    data = load({"train.jsonl": many(100)}, max_train_rows=limit)
    assert texts(data.splits["train"]) == [str(row) for row in range(100)]
    assert data.notices == ()


def test_a_task_has_a_default_limit_that_the_user_may_raise(load):
    rows = [{"question": "q", "sentence": str(row), "label": row % 2} for row in range(20_010)]
    data = load({"train.jsonl": rows}, "qnli")
    assert len(data.splits["train"]) == sum(1 for _ in data.splits["train"]) == 20_000
    assert data.notices == ("train: 20000 of 20010 rows, seed 42",)
    assert len(load({}, "qnli", max_train_rows=30_000).splits["train"]) == 20_010


# --------------------------------------------------------------------------------------------------
# The Hub


def from_hub(tmp_path, task, **rest):
    return open_task(ExtractConfig(backbone="minilm", task=task, out=tmp_path / "out", **rest))


def test_hub_splits_are_read_like_files(tmp_path, monkeypatch):
    asked = []

    def load_dataset(repository, subset, split):
        asked.append((repository, subset, split))
        rows = [{"sentence": "a", "label": -1}] if split == "test" else COLA
        return datasets.Dataset.from_list([{"idx": index, **row} for index, row in enumerate(rows)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = from_hub(tmp_path, "cola", max_train_rows=4)
    assert asked == [("nyu-mll/glue", "cola", split) for split in ("train", "validation", "test")]
    sizes = {name: (len(split), len(list(split))) for name, split in data.splits.items()}
    assert sizes == {"train": (4, 4), "validation": (6, 6)}
    assert list(data.splits["validation"])[5] == Example(("Sentence 5.",), 1, 5)
    assert data.notices[0].startswith("test: skipped")


def test_hub_rows_are_checked_like_files(tmp_path, monkeypatch):
    rows = datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "a", "label": 5}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    with refuses("class from 0 to 1", "stanfordnlp/imdb/train:row 2: 5"):
        from_hub(tmp_path, "imdb")
    with refuses("column 'sentence' is missing", "nyu-mll/glue/cola/train:row 1", "text, label"):
        from_hub(tmp_path, "cola")
    with refuses(
        "column 'premise', 'hypothesis' is missing", "nyu-mll/glue/ax/test:row 1", "text, label"
    ):
        from_hub(tmp_path, "ax")


@pytest.mark.parametrize(
    "failure", [ConnectionError("offline"), ValueError("gated"), RuntimeError("disk full")]
)
def test_a_hub_that_does_not_answer_leads_to_local_files(tmp_path, monkeypatch, failure):
    def load_dataset(*_, **__):
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with refuses(
        str(failure),
        "--data DIR with {train,validation,test}.{jsonl",
        "sentence1, sentence2, label",
    ):
        from_hub(tmp_path, "rte")


def test_custom_and_missing_packages(tmp_path, monkeypatch):
    with refuses("task custom reads local files", "no --data", "{train,validation,test}"):
        from_hub(tmp_path, "custom", text_columns=("text",))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refuses("this needs the package datasets", "pip install 'glot-jax[extract]'"):
        from_hub(tmp_path, "rte")

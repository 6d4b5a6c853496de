"""Reading a task's files: what is written is read.

Every mistake is reported with its file and line.
"""

import random
import string
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.typed import of_kind
from support.written_files import (
    COLA,
    SUFFIXES,
    labels_of,
    read_folder,
    refuses,
    texts_of,
    write_rows,
)

from glot_jax.texts import TASKS, Example

GOOD = '{"sentence": "a", "label": 1}'


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_examples(load, suffix):
    data = load({f"train.{suffix}": COLA, f"validation.{suffix}": COLA[:2]})
    expected = [Example((row["sentence"],), row["label"], index) for index, row in enumerate(COLA)]
    assert list(data.splits["train"]) == expected
    assert list(data.splits["train"]) == expected  # and again
    assert all(type(label) is int for label in labels_of(data.splits["train"]))
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


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_text_survives_any_format(suffix, data):
    """Control characters, quotes, line breaks and all.

    A tsv has no way to write tabs and line breaks.
    """
    text = line_text if suffix == "tsv" else any_text
    rows = data.draw(
        st.lists(st.fixed_dictionaries({"a": text, "b": text, "y": st.integers(0, 2)}), min_size=1)
    )
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / f"train.{suffix}", [{"a": "first", "b": "", "y": 5}, *rows])
        task = read_folder(Path(folder), "custom", text_columns=("b", "a"), label_column="y")
        rows_read = [
            (*example.texts, task.spec.classes[of_kind(example.label, int)])
            for example in task.splits["train"]
        ]
    assert rows_read == [("", "first", "5"), *((row["b"], row["a"], str(row["y"])) for row in rows)]
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
    assert texts_of(load({"train.csv": content}).splits["train"]) == [expected]


def test_tsv_knows_no_quotes(load):
    content = 'sentence\tlabel\n"He left\t1\n"Both"\t0\n\u2028\x0b\x85 x\t1\n'
    assert texts_of(load({"train.tsv": content}).splits["train"]) == [
        '"He left',
        '"Both"',
        "\u2028\x0b\x85 x",
    ]


def test_a_blank_line_is_an_empty_text_only_in_a_tsv_of_one_column(load):
    data = load(
        {"train.tsv": "t\nx\n\ny\n", "test.csv": 't\nx\n\n""\ny\n'}, "custom", text_columns=("t",)
    )
    assert texts_of(data.splits["train"]) == ["x", "", "y"]
    assert texts_of(data.splits["test"]) == ["x", "", "y"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_text_of_a_megabyte(load, suffix):
    long = "".join(random.Random(0).choices(string.ascii_letters + " ,'", k=1_000_000))
    assert texts_of(
        load({f"train.{suffix}": [{"sentence": long, "label": 1}]}).splits["train"]
    ) == [long]


@pytest.mark.parametrize("suffix", SUFFIXES)
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

    write_rows(tmp_path / "train.csv", COLA)
    code = (
        "import sys; from pathlib import Path\nfrom glot_jax.config import ExtractConfig; from"
        " glot_jax.texts import open_task\ntask = open_task(ExtractConfig(backbone='m',"
        f" task='cola', out=Path('x'), data=Path({str(tmp_path)!r})))\nassert"
        " len(list(task.splits['train'])) == 6\nprint([m for m in ('torch', 'jax', 'datasets',"
        " 'pyarrow', 'sklearn') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root
    )
    assert (process.stdout, process.returncode) == ("[]\n", 0), process.stderr


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
            ("must be UTF-8", "train.jsonl:2: invalid", "byte 14"),
        ),
        ("train.csv", b"sentence,label\na,1\n\xe9,1\n", ("must be UTF-8", "train.csv:3: invalid")),
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
            ("names must be unique", "train.csv:1: 'label' more than once"),
        ),
        ("train.tsv", "x\tx\na\t1\n", ("names must be unique", "train.tsv:1: 'x'")),
        (
            "train.csv",
            "text,label\na,1\n",
            ("column 'sentence' must be in the data", "train.csv:1", "text, label"),
        ),
        ("train.tsv", "gj04\t2\t\tOur friends.\n" * 2, ("column 'sentence'", "tsv:1", "gj04, 2, ")),
        (
            "train.jsonl",
            GOOD + '\n{"label": 1}',
            ("column 'sentence' must be in the data", "jsonl:2", "there: label"),
        ),
        (
            "train.parquet",
            b"PAR1 and then nothing",
            ("must be readable by pyarrow", "train.parquet after row 0"),
        ),
        (
            "train.parquet",
            [{"text": "a", "label": 1}],
            ("column 'sentence' must be in the data", "parquet:row 1", "text, label"),
        ),
        (
            "train.parquet",
            [{"text": "a"}],
            ("column 'sentence' must be in the data", "train.parquet:row 1", "there: text"),
        ),
        (
            "train.parquet",
            [*COLA[:1], {"sentence": None, "label": 1}],
            ("must be a string", ":row 2: sentence = None"),
        ),
        (
            "train.jsonl",
            [*COLA[:1], {"sentence": 7, "label": 1}],
            ("must be a string", "jsonl:2: sentence = 7"),
        ),
        (
            "train.jsonl",
            [{"sentence": None, "label": 1}],
            ("a text must be a string", "jsonl:1: sentence = None"),
        ),
        (
            "train.jsonl",
            [{"sentence": ["a"], "label": 1}],
            ("a text must be a string", "jsonl:1: sentence = ['a']"),
        ),
        (
            "train.jsonl",
            '{"sentence": "\\ud83d", "label": 1}',
            ("encodable as UTF-8", "jsonl:1: sentence holds half"),
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


def test_a_later_split_is_checked_before_the_first_example_is_served(load):
    with refuses("a text must be a string", "validation.jsonl:1"):
        load({"train.jsonl": COLA, "validation.jsonl": [{"sentence": 1, "label": 1}]})


def test_folders_and_files_that_are_not_there(load, tmp_path):
    with refuses(
        "--data must be a folder", "nowhere", "{train,validation,test}.{jsonl,csv,tsv,parquet}"
    ):
        read_folder(tmp_path / "nowhere")
    with refuses(
        "--data must hold {train,validation,test}.{jsonl,csv,tsv,parquet}", "with eval.tsv"
    ):
        load({"eval.tsv": "x"})
    with refuses("task cola needs a train split", "validation.jsonl", "train.jsonl"):
        load({"validation.jsonl": COLA})
    with refuses("a split must be one file", "train.csv and ", "train.jsonl", "Keep one"):
        load({"train.jsonl": COLA, "train.csv": COLA})


def test_columns_belong_to_custom_only(load):
    with refuses(
        "cola must be read from its own columns: sentence",
        "--text-columns and --label-column",
        "--task custom",
    ):
        load({"train.jsonl": COLA}, text_columns=("sentence",), label_column="label")
    with refuses("unknown task", "'kola'", "cola"):
        load({}, "kola")
    with refuses(
        "--task custom needs --text-columns", "Columns of", "train.jsonl: sentence, label"
    ):
        load({"train.jsonl": COLA}, "custom")


def test_a_header_of_a_million_columns_takes_no_time(load):
    start = time.process_time()
    with refuses("column names must be unique", "train.csv:1: '' more than once"):
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


def test_a_file_that_cannot_be_read_is_reported(load, monkeypatch):
    load({"train.jsonl": COLA})

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with refuses(
        "the files of --data must be readable",
        "train.jsonl, after line 0: [Errno 13] Permission denied",
    ):
        load({})


def test_custom_without_label_column_stores_texts_of_any_split(custom):
    rows = '{"a": "x", "b": "y", "c": "z", "label": 1}\n'
    data = custom({"test.jsonl": rows}, label_column=None, text_columns=("c", "a", "b"))
    assert list(data.splits["test"]) == [Example(("z", "x", "y"), None, 0)]
    assert (data.spec.label_kind, data.spec.roles, data.spec.metrics) == (
        "none",
        ("text0", "text1", "text2"),
        (),
    )

"""Readers under fire.

Whatever a file holds, rows come out or one error that names the file and the line.

| law | file | outcome |
| --- | --- | --- |
| hostile | a valid one, damaged; or odd types | `Example`s of the kind, or a UsageError |
| well-formed | any texts, by json's, csv's, pyarrow's hand | the same texts and labels, in order |

Files are real, and read as `extract.py` reads them: `open_task`, then every split from end to end.
`--soak` runs 10,000 cases, otherwise a few hundred; both are the same on every run.
"""

import codecs
import csv
import io
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.fuzz_damage import hostile, odd_table
from support.fuzz_rows import Case, Setup, expected_labels, rows_of, setups, texts_for, to_bytes

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import TaskData, open_task

pytestmark = pytest.mark.faults

CASES = {  # (quick, soak) for each format; the soak's sum is 10,000
    "well-formed": dict.fromkeys(("jsonl", "csv", "tsv", "parquet"), (12, 500)),
    "hostile": {"jsonl": (50, 2000), "csv": (50, 2000), "tsv": (40, 1500), "parquet": (40, 1500)},
    "odd types": {"parquet": (40, 1000)},
}
SECONDS = 10.0
"""Processor time that no file of a few megabytes may take; the slowest takes a tenth of a second.
"""
LONGEST_MESSAGE = 2000

WHOLE_FILE = (
    "a split must have at least one row",
    "the train split needs labels in column",
    "must be readable by pyarrow",
    "a classification needs two classes",
    "regression needs labels that differ",
)
"""Rules that no single row breaks: their messages have the file alone."""


@dataclass
class Tally:
    """How the cases of one test ended."""

    rows: int = 0
    errors: int = 0
    slowest: float = 0.0
    rules: dict[str, int] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return self.rows + self.errors


def fuzz(strategy: st.SearchStrategy[Any], cases: int, law: Callable[[Any], None]) -> None:
    """The same cases on every run: no clock, no memory of earlier runs."""

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy)
    def run(case: object) -> None:
        law(case)

    run()


def read(folder: Path, setup: Setup) -> TaskData:
    custom = (
        {"text_columns": setup.texts, "label_column": setup.label} if setup.task == "custom" else {}
    )
    return open_task(
        ExtractConfig(backbone="minilm", task=setup.task, out=folder / "out", data=folder, **custom)
    )


def check_examples(data: TaskData, setup: Setup) -> dict[str, int]:
    """Law 1, first outcome. Number of examples by split."""
    counts, kind = {}, data.spec.label_kind
    for name, split in data.splits.items():
        examples = list(split)
        assert [example.row for example in examples] == list(range(len(split)))
        for example in examples:
            assert [type(text) for text in example.texts] == [str] * len(setup.texts)
            assert all(text.encode() is not None for text in example.texts)
            if kind == "classes":
                assert type(example.label) is int
                assert 0 <= example.label < len(data.spec.classes)
            elif kind == "regression":
                assert type(example.label) is float
                assert math.isfinite(example.label)
            else:
                assert example.label is None
        counts[name] = len(examples)
    assert "\n".join(data.spec.classes).encode() is not None
    return counts


def check_error(error: UsageError, path: Path) -> None:
    """Law 1, second outcome: file and line, on one screen, without what a terminal would obey."""
    message = str(error)
    assert str(path) in message, message
    location = message.partition(str(path))[2]
    number = location.removeprefix(":").removeprefix("row ").removeprefix(" after row ")
    schema = path.suffix == ".parquet" and error.rule == "column names must be unique"
    assert number[:1].isdecimal() or schema or any(rule in error.rule for rule in WHOLE_FILE), (
        message
    )
    assert len(message) < LONGEST_MESSAGE, message[:LONGEST_MESSAGE]
    assert message.isprintable(), ascii(message)


def decoded(content: bytes) -> str:
    """Text by its byte-order mark, else UTF-8; with LF where there is no LF but a CR."""
    marks = (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    )
    encoding = next((name for mark, name in marks if content.startswith(mark)), "utf-8")
    text = content.decode(encoding).removeprefix("\ufeff")
    return text if "\n" in text else text.replace("\r", "\n")


def count_records(path: Path, notices: tuple[str, ...]) -> int | None:
    """Records of a readable file as another reader sees them.

    None where a blank line may be a record, or a row was mended.
    """
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    if any(str(path) in notice and "columns are separated" in notice for notice in notices):
        return None
    text = decoded(path.read_bytes())
    quoted = any("fields in quotation marks are read" in notice for notice in notices)
    if path.suffix == ".csv" or quoted:
        csv.field_size_limit(2**31 - 1)
        rows = csv.reader(
            io.StringIO(text, newline=""),
            strict=True,
            delimiter="," if path.suffix == ".csv" else "\t",
        )
        return sum(1 for row in rows if row) - 1
    lines = text.split("\n")
    if path.suffix == ".tsv":
        return (
            None
            if "\t" not in lines[0]
            else sum(1 for line in lines if line.removesuffix("\r")) - 1
        )
    if text.lstrip().startswith("["):
        return len(json.loads(text, strict=False))
    names = [
        [name for name, _ in json.loads(line, object_pairs_hook=list, strict=False)]
        for line in lines
        if line.strip()
    ]
    assert all(
        len(set(row)) == len(row) for row in names
    )  # two values under one name are never taken for one
    return len(names)


class Hang(BaseException):
    """No `except Exception` may swallow it."""


@contextmanager
def no_hang() -> Iterator[None]:
    """Hang after `SECONDS` of processor time, however busy the machine is."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(folder: Path, split: str, suffix: str, case: Case, tally: Tally) -> None:
    """Write the file, read it, and hold the outcome against law 1."""
    setup, content, _ = case
    for old in folder.iterdir():
        old.unlink()
    path = folder / f"{split}.{suffix}"
    path.write_bytes(content)
    if split != "train":
        rows = [
            dict.fromkeys(setup.texts, "a") | {setup.label or "no": label}
            for label in setup.first or (0, 1)
        ]
        (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    start = time.process_time()
    try:
        with no_hang():
            data = read(folder, setup)
            counts = check_examples(data, setup)
    except UsageError as error:
        check_error(error, path)
        tally.errors += 1
        tally.rules[error.rule[:40]] = tally.rules.get(error.rule[:40], 0) + 1
    else:
        tally.rows += 1
        if split in counts:
            assert count_records(path, data.notices) in (counts[split], None)
        else:
            assert any(str(path) in notice and notice.isprintable() for notice in data.notices)
    tally.slowest = max(tally.slowest, time.process_time() - start)


def parameters(law: str) -> list[Any]:
    return [pytest.param(suffix, *cases, id=suffix) for suffix, cases in CASES[law].items()]


@pytest.mark.parametrize(("suffix", "quick", "long"), parameters("hostile"))
def test_damaged_files_end_as_rows_or_as_one_error(
    tmp_path, soak, record_property, suffix, quick, long
):
    tally, cases = Tally(), long if soak else quick
    splits = st.sampled_from(["train", "train", "test"])
    fuzz(
        st.tuples(splits, hostile(suffix)),
        cases,
        lambda drawn: judge(tmp_path, drawn[0], suffix, drawn[1], tally),
    )
    note(record_property, f"damaged .{suffix} files", tally, cases)


@pytest.mark.parametrize(("suffix", "quick", "long"), parameters("odd types"))
def test_odd_column_types_end_as_rows_or_as_one_error(
    tmp_path, soak, record_property, suffix, quick, long
):
    tally, cases = Tally(), long if soak else quick
    fuzz(odd_table(), cases, lambda case: judge(tmp_path, "train", suffix, case, tally))
    assert (
        "a .parquet file must be readable by pyarrow" not in tally.rules
    )  # the files are sound: a row is at fault, or the columns
    note(record_property, "Parquet files with odd column types", tally, cases)


def note(
    record_property: Callable[[str, object], None], fault: str, tally: Tally, cases: int
) -> None:
    assert tally.cases >= cases
    assert min(tally.rows, tally.errors) > tally.cases / 8, tally  # the fuzz reaches both ends ...
    assert len(tally.rules) > 3 or cases < 1000 or fault == "damaged .parquet files", (
        tally
    )  # ... and many checks
    seen = (
        f"a row, or one error with file and line ({tally.rows} files were read, {tally.errors}"
        " refused)"
    )
    record_property("fault", {"fault": fault, "injected": tally.cases, "lost": 0, "seen": seen})


@st.composite
def well_formed(draw: Callable[..., Any], suffix: str) -> Case:
    texts = texts_for(suffix)
    setup = draw(st.sampled_from(setups(texts)))
    rows = rows_of(draw, setup, texts, 8)
    extra = draw(
        st.sampled_from(
            [
                {},
                {},
                {"idx": 7},
                {"note": "n"},
                {"nested": {"sentence": ["x", None]}} if suffix in ("jsonl", "parquet") else {},
            ]
        )
    )
    content = to_bytes(
        suffix, [extra | row for row in rows], lambda values: draw(st.sampled_from(values))
    )
    return Case(setup, content, tuple(rows))


def is_expected(notice: str) -> bool:
    """Whether a line may be said of a file that was written as it should be.

    Names may be nearly alike, and a text of quotation marks alone looks quoted.
    """
    nearly_alike = notice.startswith("classes that differ in case or blanks")
    return nearly_alike or "quotation marks are kept as they are written" in notice


@pytest.mark.parametrize(("suffix", "quick", "long"), parameters("well-formed"))
def test_what_was_written_is_read(tmp_path, soak, record_property, suffix, quick, long):
    read_rows = []

    def law(case):
        setup, content, rows = case
        (tmp_path / f"train.{suffix}").write_bytes(content)
        data = read(tmp_path, setup)
        examples = list(data.splits["train"])
        assert len(examples) == len(data.splits["train"]) == len(rows)
        assert [example.texts for example in examples] == [
            tuple(row[name] for name in setup.texts) for row in rows
        ]
        assert [example.label for example in examples] == expected_labels(setup, rows)
        assert [example.row for example in examples] == list(range(len(rows)))
        assert [line for line in data.notices if not is_expected(line)] == []
        read_rows.append(len(rows))

    cases = long if soak else quick
    fuzz(well_formed(suffix), cases, law)
    assert len(read_rows) >= cases
    seen = f"all {sum(read_rows)} rows, in order"
    record_property(
        "fault",
        {
            "fault": f"any text in a .{suffix} file",
            "injected": len(read_rows),
            "lost": 0,
            "seen": seen,
        },
    )

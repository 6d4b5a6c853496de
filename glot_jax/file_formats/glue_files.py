"""GLUE's files as its authors distribute them, nine archives of .tsv, beside `TASKS`.

| task | files | not as the Hub's columns |
| --- | --- | --- |
| cola | train, dev, test | no header (test has one) |
| mrpc | train, dev, test; msr_paraphrase_*.txt | Quality, #1 String, #2 String |
| qqp | train, dev, test | is_duplicate |
| stsb | train, dev, test | score |
| mnli | train, dev_matched, dev_mismatched, test_* | sentence1, sentence2, gold_label |
| ax | diagnostic | sentence1, sentence2 |
| sst2, qnli, rte, wnli | train, dev, test |  |

The files of `test` have no labels. Quotation marks there are characters of the text. A column that
has the Hub's name is taken for it in any format; the other name is looked for where that is
missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glot_jax.file_formats.records import Columns, Record, Records, Source


@dataclass(frozen=True)
class GlueLayout:
    """How the files of one task differ from the Hub's."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column -> its name in GLUE's files."""
    headerless: tuple[str, ...] = ()
    """Columns of a file without a header."""
    marks: frozenset[str] = frozenset()
    """Columns that GLUE's own files have, and hardly any others.

    One of them tells that a file is GLUE's.
    """
    stems: Mapping[str, str] = field(default_factory=dict)
    """Name of a file, without its suffix -> our split, where no file has the split's name."""
    no_label: tuple[str, ...] = ()
    """What is written where a row has no label."""

    def fits(self, header: Columns, columns: Columns) -> bool:
        """Tell whether a header has the columns, under either name.

        The first row of a file without a header fits as well.
        """
        if self.is_headerless(header):
            return True
        names = {*header}
        # One name of the two is enough for each: the Hub's or GLUE's.
        for column in columns:
            if column not in names and self.columns.get(column) not in names:
                return False
        # Where no column is known, a header of one name may be several that are cut wrongly.
        return len(header) > (0 if columns else 1)

    def is_headerless(self, first: Columns) -> bool:
        """Tell whether a file's first row is CoLA's.

        That is an identifier, 0 or 1, a star or nothing, a sentence.
        """
        # CoLA's files have no header: what stands first is a row already.
        if not self.headerless or len(first) != len(self.headerless):
            return False
        _, label, star, _ = first
        return label in ("0", "1") and star in ("", "*")

    def is_own(self, first: Columns) -> bool:
        """Tell whether a file is GLUE's own, by its first row."""
        return self.is_headerless(first) or not self.marks.isdisjoint(first)


LAYOUTS: dict[str, GlueLayout] = {
    "cola": GlueLayout(headerless=("source", "label", "star", "sentence")),
    "mrpc": GlueLayout(
        columns={"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
        marks=frozenset({"#1 ID", "#1 String"}),
        # The archive has Microsoft's files; train.tsv and dev.tsv are made of them.
        stems={"msr_paraphrase_train": "train", "msr_paraphrase_test": "test"},
    ),
    "qqp": GlueLayout(
        columns={"label": "is_duplicate"},
        marks=frozenset({"qid1"}),
    ),
    "stsb": GlueLayout(
        columns={"label": "score"},
        marks=frozenset({"old_index", "main-captions"}),
    ),
    "mnli": GlueLayout(
        columns={"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
        marks=frozenset({"promptID", "pairID", "sentence1_parse"}),
        # A dash where the annotators did not agree; the test set's labels are hidden.
        no_label=("-", "hidden"),
    ),
    "ax": GlueLayout(
        columns={"premise": "sentence1", "hypothesis": "sentence2"}, stems={"diagnostic": "test"}
    ),
}
"""Name of a task -> how GLUE's files of it differ."""

NO_LAYOUT = GlueLayout()
"""The layout of a task whose files have the Hub's columns."""


def renamed(source: Source, layout: GlueLayout, label_column: str | None) -> Source:
    """The source with our columns in place of GLUE's, where ours are missing."""
    if not layout.columns:
        return source

    def read(columns: Columns) -> Records:
        # A Parquet file reads what it is asked for: both names, since either may be there.
        either = list(columns)
        for name in columns:
            if name in layout.columns:
                either.append(layout.columns[name])
        for record in source.read(either):
            yield _renamed(record, layout, label_column)

    return replace(source, read=read)


def _renamed(record: Record, layout: GlueLayout, label_column: str | None) -> Record:
    columns = record.columns
    ours: dict[str, str] = {}
    for name, glues_name in layout.columns.items():
        if name not in columns and glues_name in columns:
            ours[glues_name] = name
    if not ours:
        return record
    values: dict[str, Any] = {}
    for name, value in record.values.items():
        values[ours.get(name, name)] = value
    # Only under GLUE's own name: somebody else may have a class that is called hidden.
    if label_column in values and values[label_column] in layout.no_label:
        values[label_column] = None
    names = [ours.get(name, name) for name in columns]
    return record._replace(values=values, columns=names)

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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glot_jax.texts.records import Record, Source


@dataclass(frozen=True)
class GlueLayout:
    """How the files of one task differ from the Hub's."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column -> its name in GLUE's files."""
    headerless: tuple[str, ...] = ()
    """Columns of a file without a header."""
    marks: frozenset[str] = frozenset()
    """Columns that GLUE's own files have, and hardly any others: one of them tells that a file is
    GLUE's.
    """
    stems: Mapping[str, str] = field(default_factory=dict)
    """Name of a file, without its suffix -> our split, where no file has the split's name."""
    no_label: tuple[str, ...] = ()
    """What stands in place of a label that there is not."""

    def fits(self, header: Sequence[str], wanted: Sequence[str]) -> bool:
        """Whether a header has the wanted columns, under either name, or is a row of a file without
        one.
        """
        there = {*header}
        named = all(column in there or self.columns.get(column) in there for column in wanted)
        # Where nothing is wanted, a header of one column may be one of several that is cut wrongly.
        return (named and len(header) > (not wanted)) or self.is_headerless(header)

    def is_headerless(self, first: Sequence[str]) -> bool:
        """Whether a file's first row is CoLA's: an identifier, 0 or 1, a star or nothing, a
        sentence.
        """
        same = bool(self.headerless) and len(first) == len(self.headerless)
        return same and first[1] in ("0", "1") and first[2] in ("", "*")

    def is_own(self, first: Sequence[str]) -> bool:
        """Whether a file is GLUE's own, by its first row."""
        return self.is_headerless(first) or not self.marks.isdisjoint(first)


LAYOUTS: dict[str, GlueLayout] = {
    "cola": GlueLayout(headerless=("source", "label", "star", "sentence")),
    "mrpc": GlueLayout(
        {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"},
        marks=frozenset({"#1 ID", "#1 String"}),
        stems={"msr_paraphrase_train": "train", "msr_paraphrase_test": "test"},
    ),
    "qqp": GlueLayout({"label": "is_duplicate"}, marks=frozenset({"qid1"})),
    "stsb": GlueLayout({"label": "score"}, marks=frozenset({"old_index", "main-captions"})),
    "mnli": GlueLayout(
        {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"},
        marks=frozenset({"promptID", "pairID", "sentence1_parse"}),
        no_label=("-", "hidden"),
    ),
    "ax": GlueLayout(
        {"premise": "sentence1", "hypothesis": "sentence2"}, stems={"diagnostic": "test"}
    ),
}
"""Name of a task -> how GLUE's files of it differ."""

NO_LAYOUT = GlueLayout()


def renamed(source: Source, layout: GlueLayout, label_column: str | None) -> Source:
    """The source with our columns in place of GLUE's, where ours are missing."""
    if not layout.columns:
        return source

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        asked = [*wanted, *(layout.columns[name] for name in wanted if name in layout.columns)]
        for record in source.read(asked):
            yield _renamed(record, layout, label_column)

    return Source(source.name, source.typed, read, source.remarks)


def _renamed(record: Record, layout: GlueLayout, label_column: str | None) -> Record:
    there = record.columns
    ours = {
        theirs: name
        for name, theirs in layout.columns.items()
        if name not in there and theirs in there
    }
    if not ours:
        return record
    values: dict[str, Any] = {ours.get(name, name): value for name, value in record.values.items()}
    if label_column in values and values[label_column] in layout.no_label:
        values[label_column] = None
    return Record(record.place, values, [ours.get(name, name) for name in there], record.header)

"""What a label column holds: the type of every label as it is written, and of the column as it is
read.

A spelling such as NA, NaN, null or None is what R, pandas, SQL and Excel write for a value that is
not there. In a textual source it is a missing label beside numbers and truth values, and for a
fixed task. Beside names it is a name like any other, with a line that says so, unless rows without
a label are to be left out (`--drop-unlabelled` without `--label-kind classes`).

A few names beside numbers are a slip, and an error that names the first, unless `--label-kind
classes` makes names of all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from glot_jax.errors import require
from glot_jax.texts.quoting import listed
from glot_jax.texts.records import Seen

FEW = 20
"""Most values of whole floats that are taken for classes."""

Kind = Literal[
    "missing", "null", "absent", "bool", "truth", "int", "float", "number", "str", "other"
]
"""Of one label as it is written, "truth" being true or false as a string, "null" and "absent"
one of `_NULL` and `_ABSENT`; of a column as it is read, "number" being classes that are called by
numbers."""

_NULL = frozenset(("<NA>", "#N/A", "\\N", "NaN", "nan", "NAN", "-nan", "-NaN"))
_ABSENT = frozenset(("NA", "N/A", "n/a", "null", "NULL", "Null", "None", "none"))
"""How pandas, Excel, SQL, R and Python write that there is no value, in files without types. Beside
names the second may be one."""
GAPS: frozenset[Kind] = frozenset(("missing", "null", "absent"))
_FEW_NAMES = 0.1
"""Names beside numbers are a slip if they are at most this share of the numbers, or one alone."""

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
# After `[0-9]+` no second run of digits may follow without a point: a million of them would be
# split in every way.
_NUMBER = re.compile(
    r"\s*[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)\s*",
    re.ASCII | re.IGNORECASE,
)
# A bool is an int in Python, so it comes first.
_TYPES: tuple[tuple[type, Kind], ...] = ((bool, "bool"), (int, "int"), (float, "float"))
_GROUP = {"bool": "truth value", "int": "number", "float": "number", "str": "name"}
_TRUTH = ("false", "true")


def spelled(text: Any) -> Any:
    """The int or float that a field of a csv or tsv file spells, None if it is empty, else the
    field itself.
    """
    if not isinstance(text, str):
        return text
    if _INTEGER.fullmatch(text) and len(text) < 1000:  # Python refuses to convert longer ones
        return int(text)
    if _NUMBER.fullmatch(text) and text.strip() not in _NULL:
        return float(text)
    return text or None


def is_whole(text: str) -> bool:
    """Whether the text spells an integer."""
    return _INTEGER.fullmatch(text) is not None


def kind_of(value: Any) -> Kind:
    """Type of a label as it is written; a blank string is a missing label."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    if isinstance(value, str):
        if not value or value.isspace():
            return "missing"
        if len(value) < 20 and value.strip() in _ABSENT:
            return "absent"
        if len(value) < 20 and value.strip() in _NULL:
            return "null"
        return "truth" if len(value) < 6 and value.lower() in _TRUTH else "str"
    for written, kind in _TYPES:
        if isinstance(value, written):
            return kind
    return "other"


def label_kind(raw: Any, typed: bool) -> Kind:
    """Type of a label in a source with types or without; with them, "NA" is a string like any."""
    kind = kind_of(raw if typed else spelled(raw))
    return "str" if typed and kind in ("null", "absent") else kind


@dataclass
class Survey:
    """What one pass over a split found: its rows, and which types of labels it has."""

    source: str
    typed: bool
    rows: int = 0
    kinds: dict[Kind, Seen] = field(default_factory=dict)
    """In the order of their first occurrence."""
    minus_one: Seen = field(default_factory=Seen)
    fraction: Seen = field(default_factory=Seen)
    """Numbers that are not whole."""
    numbers: set[float] = field(default_factory=set)
    """Values of the numbers, a few more than `FEW` of them at most."""
    columns: tuple[str, ...] = ()

    def add(self, raw: Any, place: str) -> None:
        """Count the label of one more row."""
        value = raw if self.typed else spelled(raw)
        kind = label_kind(raw, self.typed)
        self.rows += 1
        self.kinds.setdefault(kind, Seen()).add(place)
        if kind not in ("int", "float"):
            return
        if value == -1:
            self.minus_one.add(place)
        if isinstance(value, float) and not value.is_integer():
            self.fraction.add(place)
        if len(self.numbers) <= FEW:
            self.numbers.add(value)

    def gaps(self, kinds: frozenset[Kind] = GAPS, *, minus_one: bool = True) -> Seen:
        """Rows whose label is of these kinds or -1. The place of a -1 is named before others: it
        could be taken for a label.
        """
        found = [self.kinds[kind] for kind in self.kinds if kind in kinds]
        if minus_one:
            found.insert(0, self.minus_one)
        places = [seen.place for seen in found if seen.place]
        return Seen(sum(seen.count for seen in found), places[0] if places else "")

    @property
    def may_be_labelled(self) -> bool:
        """Whether some row says anything but -1."""
        return self.gaps().count < self.rows


def gap_kinds(train: Survey, asked: str, *, drop: bool) -> frozenset[Kind]:
    """What is no label in the column of which that is the train split: among names, NA and its like
    are one unless rows without a label are left out, and --label-kind classes makes names of all.
    """
    if "str" not in train.kinds:
        return GAPS
    if asked == "classes":
        return frozenset(("missing",))
    return GAPS if drop else frozenset(("missing", "null"))


def column_kind(
    surveys: Mapping[str, Survey], asked: str = "auto", gaps: frozenset[Kind] = GAPS
) -> tuple[Kind, list[str]]:
    """How a label column is read in all splits, and lines about what was assumed. Train decides.

    UsageError, with `file:line`, where two types meet in the column, and for names where scores are
    asked for.
    """
    train = surveys["train"]
    names = "str" in train.kinds
    _require_no_slip(train, asked)
    kinds: dict[Kind, str] = {}
    for survey in surveys.values():
        for kind, seen in survey.kinds.items():
            if kind in GAPS and kind not in gaps:
                kinds.setdefault("str", seen.place)
            elif kind not in gaps:
                name = names and (not survey.typed or kind == "truth")
                kinds.setdefault(_as_read(kind, name), seen.place)
    found = " and ".join(f"{kind} (first in {place})" for kind, place in kinds.items())
    fix = "Write all labels as ints, all as strings, or all as floats."
    require(
        "other" not in kinds,
        "a label is a number, a string, true or false",
        kinds.get("other"),
        fix,
    )
    if "bool" in kinds and asked != "regression" and _are_truth_values(surveys, kinds):
        return (
            "int" if "bool" not in {_as_read(kind, False) for kind in train.kinds} else "bool"
        ), []
    require(len({_GROUP[kind] for kind in kinds}) == 1, "two label types in one column", found, fix)
    if "int" in kinds or "float" in kinds:
        kind, notices = _number_kind(train, asked)
        if kind == "int" and "float" not in train.kinds:
            notices += _other_floats(surveys)
        return kind, notices
    kind = next(iter(kinds))
    rule = "--label-kind regression needs numbers"
    got = f"{_GROUP[kind]}s, first in {kinds[kind]}"
    require(asked != "regression", rule, got, "Leave it out, or check --label-column.")
    return kind, _mixed(train, asked, gaps) if kind == "str" else []


def _are_truth_values(surveys: Mapping[str, Survey], kinds: Mapping[Kind, str]) -> bool:
    """Whether all labels are true, false, 1 or 0."""
    numbers = {number for survey in surveys.values() for number in survey.numbers}
    return {*kinds} <= {"bool", "int", "float"} and numbers <= {0, 1}


def _require_no_slip(train: Survey, asked: str) -> None:
    """UsageError for a word or a few among numbers: no reason to make a class of every number."""
    name = train.kinds.get("str")
    numbers = [seen for kind, seen in train.kinds.items() if kind in ("int", "float")]
    if name is None or not numbers or train.typed or asked == "classes":
        return
    count = sum(seen.count for seen in numbers)
    few = name.count <= _FEW_NAMES * count or (name.count == 1 and count > 2)
    got = f"{name.place}: a name, one of {name.count} among {count} numbers"
    fix = (
        "Correct the label or empty it (--drop-unlabelled leaves out rows without one). "
        "If numbers and names are classes: --label-kind classes."
    )
    scores = train.fraction.count > 0 and name.count < count and count > 2
    require(not few and not scores, "labels are numbers or names, not both", got, fix)


def _mixed(train: Survey, asked: str, gaps: frozenset[Kind]) -> list[str]:
    """Lines about numbers, and about NA and its like, among names."""
    lines = []
    numbers = [seen for kind, seen in train.kinds.items() if kind in ("int", "float")]
    if numbers and not train.typed and asked != "classes":
        name = train.kinds["str"]
        lines.append(
            f"labels: {sum(seen.count for seen in numbers)} are numbers and {name.count} are names "
            f"(first in {name.place}), so all of them are read as names"
        )
    absent = train.kinds.get("absent")
    if absent is not None and "absent" not in gaps and asked != "classes":
        lines.append(
            f"labels: {absent.count} rows say NA, null or None (first in {absent.place}); beside "
            "names that is read as a class. If they have no label: --drop-unlabelled"
        )
    return lines


def _other_floats(surveys: Mapping[str, Survey]) -> list[str]:
    """Lines about splits in which train's classes are written as floats, as pandas does beside a
    gap.
    """
    lines = []
    for name, survey in surveys.items():
        seen = survey.kinds.get("float")
        if seen is not None:
            lines.append(
                f"{name}: labels written as floats, {seen.count}, first {seen.place}, are read as "
                "train's classes; if all labels are scores: --label-kind regression"
            )
    return lines


def _as_read(kind: Kind, name: bool) -> Kind:
    if name:
        return "str"
    return "bool" if kind == "truth" else kind


def _number_kind(train: Survey, asked: str) -> tuple[Kind, list[str]]:
    """Whether train's numbers are classes or scores."""
    floats, fraction = train.kinds.get("float"), train.fraction
    few = len(train.numbers) <= FEW
    classes = floats is None or (not fraction.count and few)
    if asked == "regression":
        said = f"labels are read as scores, since --label-kind regression says so ({train.source})"
        return "float", [said] if classes else []
    if asked == "classes":
        said = [f"labels are read as classes, since --label-kind classes says so ({train.source})"]
        return "number" if fraction.count else "int", [] if classes and floats is None else said
    if floats is None:
        return "int", []
    if classes:
        values = listed([str(int(value)) for value in sorted(train.numbers)])
        return "int", [
            f"labels {values} are written as floats (first in {floats.place}) and are whole and"
            " few, so they are read as classes; if they are scores: --label-kind regression"
        ]
    if not fraction.count:
        return "float", [
            f"labels are whole numbers written as floats (first in {floats.place}), more than {FEW}"
            " of them, so they are read as scores; if they are classes: --label-kind classes"
        ]
    return "float", []

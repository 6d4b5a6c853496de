"""The type of one label as it is written, in files with types and in those without.

A spelling such as NA, NaN, null or None is what R, pandas, SQL and Excel write for a value that is
missing. In a file without types it is a missing label beside numbers and truth values.
"""

from __future__ import annotations

import math
import re
from typing import Literal

Kind = Literal[
    "missing", "null", "absent", "bool", "truth", "int", "float", "number", "str", "list", "other"
]
"""The type of a label.

| kind | of one label as it is written | of a column as it is read |
| --- | --- | --- |
| missing | null, NaN, a blank string or no field | |
| null | a spelling that is hardly ever a name: `NaN`, `#N/A` | |
| absent | a spelling that may be a name: `NA`, `None` | |
| bool | true or false | two classes |
| truth | true or false as a string | |
| int, float | a number | classes, scores |
| number | | classes that are called by numbers |
| str | a name | classes |
| list | a list | several classes a row |
| other | an object | |
"""

Kinds = frozenset[Kind]

GAPS: Kinds = frozenset(("missing", "null", "absent"))
"""Kinds that are not a label, where nothing says that a name may be spelled like that."""

_NULL = frozenset(("<NA>", "#N/A", "\\N", "NaN", "nan", "NAN", "-nan", "-NaN"))
_ABSENT = frozenset(("NA", "N/A", "n/a", "null", "NULL", "Null", "None", "none"))
"""How pandas, Excel, SQL, R and Python write a missing value. Beside names it may be one."""
_TRUTH = ("false", "true")
# Labels may be texts of megabytes, and a long one is none of the spellings above.
_LONGEST_GAP = 19
_LONGEST_TRUTH = 5
_LONGEST_INTEGER = 999

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
# After `[0-9]+` no second run of digits may follow without a point: a million of them would be
# split in every way.
_NUMBER = re.compile(
    r"\s*[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)\s*",
    re.ASCII | re.IGNORECASE,
)
# A bool is an int in Python, so it comes first.
_TYPES: dict[type, Kind] = {
    bool: "bool",
    int: "int",
    float: "float",
    list: "list",
}


def spelled(text: object) -> object:
    """The int or float that a field of a .csv or .tsv file spells, None if it is empty.

    Anything else is returned as it is.
    """
    if not isinstance(text, str):
        return text
    # Python refuses to convert longer ones.
    if len(text) <= _LONGEST_INTEGER and _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and text.strip() not in _NULL:
        return float(text)
    return text or None


def is_whole(text: str) -> bool:
    """Tell whether the text spells an integer."""
    return _INTEGER.fullmatch(text) is not None


def kind_of(value: object) -> Kind:
    """The type of a label as it is written; a blank string is a missing label."""
    if value is None:
        return "missing"
    if isinstance(value, float) and math.isnan(value):
        return "missing"
    if isinstance(value, str):
        return _kind_of_text(value)
    for python_type, kind in _TYPES.items():
        if isinstance(value, python_type):
            return kind
    # An object: no label, and not silently its spelling.
    return "other"


def _kind_of_text(text: str) -> Kind:
    if not text or text.isspace():
        return "missing"
    if len(text) <= _LONGEST_GAP:
        stripped = text.strip()
        if stripped in _ABSENT:
            return "absent"
        if stripped in _NULL:
            return "null"
    if len(text) <= _LONGEST_TRUTH and text.lower() in _TRUTH:
        return "truth"
    return "str"


def kind_of_label(raw: object, typed: bool) -> Kind:
    """The type of a label in a source with types or without; with them, "NA" is a string."""
    # A typed file has null for a gap: "NA" was written on purpose.
    if not typed:
        return kind_of(spelled(raw))
    kind = kind_of(raw)
    if kind in ("null", "absent"):
        return "str"
    return kind

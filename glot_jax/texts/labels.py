"""From what a file says in its label column to the label of an `Example`.

A task fixes what its labels mean; for `custom` the column itself decides. In a typed source (JSON Lines, Parquet, the
Hub) a value has the type it is written with, in a textual one (csv, tsv) it is an integer, a number or a name by its
spelling, and a single name makes names of the whole column.

| column holds              | label of the example                           | metrics                        |
|---------------------------|------------------------------------------------|--------------------------------|
| ints (custom)             | position among train's sorted ints             | accuracy, and f1 for 2 classes |
| strings (custom)          | position among train's sorted names            | the same                       |
| true, false (custom)      | 0 = false, 1 = true                            | the same                       |
| floats, or some (custom)  | the number; `label_range` = train's range      | spearman, pearson              |
| fixed task with classes   | the int itself (1.0 counts), or a class's name | the task's                     |
| fixed task, regression    | the number, inside the task's range            | the task's                     |

"No label" is a missing field, null, an empty string, and -1 (GLUE's test sets). For `custom`, -1 is a label like any
other, unless a split other than train holds nothing else and train does not know it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from glot_jax.config import UsageError, require
from glot_jax.texts.tasks import TaskSpec
from glot_jax.texts.written import encodes, listed, shown

_LARGEST = 3.4028234663852886e38  # of a float32, which is how scores are stored

Kind = Literal["missing", "bool", "int", "float", "str", "other"]

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
# After `[0-9]+` no second run of digits may follow without a point: a million of them would be split in every way.
_NUMBER = re.compile(
    r"\s*[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)\s*", re.ASCII | re.IGNORECASE,
)
# A bool is an int in Python, so it comes first.
_TYPES: tuple[tuple[type, Kind], ...] = ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"))
_GROUP = {"bool": "truth value", "int": "number", "float": "number", "str": "name"}


def spelled(text: Any) -> Any:
    """The int or float that a field of a csv or tsv file spells, None if it is empty, else the field itself."""
    if not isinstance(text, str):
        return text
    if _INTEGER.fullmatch(text) and len(text) < 1000:  # Python refuses to convert longer ones
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text or None


def kind_of(value: Any) -> Kind:
    """Type of a label as it is written; an empty string is a missing label."""
    if value is None or value == "":
        return "missing"
    for written, kind in _TYPES:
        if isinstance(value, written):
            return kind
    return "other"


@dataclass
class Seen:
    """How often something occurred, and `file:line` of the first time."""

    count: int = 0
    place: str = ""

    def add(self, place: str) -> None:
        self.place = self.place or place
        self.count += 1


@dataclass
class Survey:
    """What one pass over a split found: its rows, and which types of labels it has."""

    source: str
    typed: bool
    rows: int = 0
    kinds: dict[Kind, Seen] = field(default_factory=dict)
    """In the order of their first occurrence."""
    minus_one: Seen = field(default_factory=Seen)
    columns: tuple[str, ...] = ()

    def add(self, raw: Any, place: str) -> None:
        """Count the label of one more row."""
        value = raw if self.typed else spelled(raw)
        kind = kind_of(value)
        self.rows += 1
        self.kinds.setdefault(kind, Seen()).add(place)
        if kind in ("int", "float") and value == -1:
            self.minus_one.add(place)

    @property
    def gaps(self) -> Seen:
        """Rows whose label is missing or -1. Of the two the place of a -1 is named: it could be taken for a label."""
        missing = self.kinds.get("missing", Seen())
        return Seen(missing.count + self.minus_one.count, self.minus_one.place or missing.place)

    @property
    def may_be_labelled(self) -> bool:
        """Whether some row says anything but -1."""
        return self.gaps.count < self.rows


@dataclass(frozen=True)
class LabelReader:
    """Turns raw labels into labels of `spec`; `column` is the type of a custom task's column, None for a fixed task."""

    spec: TaskSpec
    column: Kind | None = None

    def read(self, raw: Any, place: str, typed: bool) -> int | float:
        """Class index or score. UsageError with `place` for a value that is neither."""
        value = self._value(raw, typed)
        if self.spec.label_kind == "regression":
            return self._score(value, place)
        index = self._index.get(self.class_name(raw, typed)) if self.column else self._class(value)
        if index is None:
            raise UsageError(self._rule(), f"{place}: {shown(value)}", "Correct the label or drop the row.")
        return index

    def gaps(self, survey: Survey) -> Seen:
        """Rows without a label: for `custom`, -1 means that only if it is all there is and train has no such label."""
        if self.column is None or not (survey.may_be_labelled or self._knows_minus_one):
            return survey.gaps
        return survey.kinds.get("missing", Seen())

    def class_name(self, raw: Any, typed: bool) -> str:
        """Name of a custom task's class: ints as "7", booleans as "true"."""
        value = self._value(raw, typed)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _value(self, raw: Any, typed: bool) -> Any:
        return raw if typed or self.column == "str" else spelled(raw)

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {name: index for index, name in enumerate(self.spec.classes)}

    @property
    def _knows_minus_one(self) -> bool:
        low, high = self.spec.label_range or (0, 0)
        return "-1" in self.spec.classes or low <= -1 <= high

    def _class(self, value: Any) -> int | None:
        if isinstance(value, str):
            return self._index.get(value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return int(value) if number and 0 <= value < len(self.spec.classes) and value == int(value) else None

    def _score(self, value: Any, place: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
        if not number:
            rule = f"a label of {self.spec.name} is a finite number"
            raise UsageError(rule, f"{place}: {shown(value)}", "Correct the label or drop the row.")
        low, high = (self.spec.label_range if self.column is None else None) or (-math.inf, math.inf)
        if not low <= value <= high:
            rule = f"a label of {self.spec.name} is a number from {low:g} to {high:g}"
            raise UsageError(rule, f"{place}: {shown(value)}", "Rescale the labels.")
        return float(value)

    def _rule(self) -> str:
        classes = self.spec.classes
        if self.column:
            return f"the classes are those of the train split: {listed(classes)}"
        names = listed([f"{index} = {name}" for index, name in enumerate(classes)])
        return f"a label of {self.spec.name} is a class from 0 to {len(classes) - 1} or its name ({names})"


def custom_labels(spec: TaskSpec, surveys: Mapping[str, Survey], train: Iterable[tuple[Any, str]]) -> LabelReader:
    """Kind, classes or range of a custom task's labels.

    `surveys` are the labelled splits, in order; `train` yields raw label and place of every row of the train split.
    UsageError for two types in one column, for one single class, for scores that are all equal, for half a character.
    """
    kind, typed, source = column_kind(surveys.values()), surveys["train"].typed, surveys["train"].source
    if kind == "float":
        reader = LabelReader(replace(spec, label_kind="regression", metrics=("spearman", "pearson")), kind)
        low, high = _range(reader.read(raw, place, typed) for raw, place in train)
        got = f"{low:g} in every row of train ({source})"
        require(low < high, "regression needs labels that differ", got, "Check --label-column.")
        return replace(reader, spec=replace(reader.spec, label_range=(low, high)))
    reader = LabelReader(spec, kind)
    names = set()
    for raw, place in train:
        name = reader.class_name(raw, typed)
        if not encodes(name):
            got = f"{place}: {shown(name)} holds half of a surrogate pair"
            raise UsageError("a label can be written as UTF-8", got, "Correct the row.")
        names.add(name)
    got = f"only {listed(list(names))} in train ({source})"
    fix = "Without --label-column, states are stored without labels."
    require(len(names) > 1, "a classification needs two classes or more", got, fix)
    classes = ("false", "true") if kind == "bool" else tuple(sorted(names, key=int if kind == "int" else None))
    metrics = ("accuracy", "f1") if len(classes) == 2 else ("accuracy",)
    return replace(reader, spec=replace(spec, label_kind="classes", classes=classes, metrics=metrics))


def known_labels(spec: TaskSpec) -> LabelReader:
    """The reader of a spec whose classes or range are settled, a custom task's too."""
    if spec.name != "custom" or spec.label_kind == "none":
        return LabelReader(spec)
    if spec.label_kind == "regression":
        return LabelReader(spec, "float")
    ints = all(_INTEGER.fullmatch(name) for name in spec.classes)
    return LabelReader(spec, "int" if ints else "str")


def column_kind(surveys: Iterable[Survey]) -> Kind:
    """Type of one label column over all splits. UsageError, with `file:line`, where two types meet in it."""
    surveys = list(surveys)
    names = any("str" in survey.kinds for survey in surveys if not survey.typed)
    kinds: dict[Kind, str] = {}
    for survey in surveys:
        for kind, seen in survey.kinds.items():
            if kind != "missing":
                kinds.setdefault("str" if names and not survey.typed else kind, seen.place)
    found = " and ".join(f"{kind} (first in {place})" for kind, place in kinds.items())
    fix = "Write all labels as ints, all as strings, or all as floats."
    require("other" not in kinds, "a label is a number, a string, true or false", kinds.get("other"), fix)
    require(len({_GROUP[kind] for kind in kinds}) == 1, "two label types in one column", found, fix)
    return "float" if "float" in kinds else next(iter(kinds))


def _range(scores: Iterable[float]) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for score in scores:
        low, high = min(low, score), max(high, score)
    return low, high

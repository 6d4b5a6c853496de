"""From what a file says in its label column to the label of an `Example`.

A task fixes what its labels mean; for `custom` the train split's column decides, or `--label-kind`.
In a typed source (JSON Lines, Parquet, the Hub) a value has the type it is written with, in a
textual one (csv, tsv) it is an integer, a number, a truth value or a name by its spelling, and a
single name makes names of the whole column.

| train's column holds            | label of the example                           | metrics                        |
|---------------------------------|------------------------------------------------|--------------------------------|
| ints (custom)                   | position among train's sorted ints             | accuracy, and f1 for 2 classes |
| strings (custom)                | position among train's sorted names            | the same                       |
| true, false in any case (custom) | 0 = false, 1 = true                           | the same                       |
| whole floats, `FEW` at most     | as ints: pandas writes 0.0 for 0 beside a gap  | the same                       |
| other floats (custom)           | the number; `label_range` = train's range      | spearman, pearson              |
| fixed task with classes         | the int itself (1.0 counts), or a class's name | the task's                     |
| fixed task, regression          | the number, inside the task's range            | the task's                     |

Other splits are read as train's column says: 1.0 is the class 1, and 0.5 is an error where train
has ints. "No label" is a missing field, null, a blank string, and -1 (GLUE's test sets). For
`custom`, -1 is a label like any other, unless a split other than train holds nothing else and train
does not know it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from glot_jax.config import UsageError, require
from glot_jax.texts.records import Seen
from glot_jax.texts.tasks import TaskSpec
from glot_jax.texts.written import encodes, listed, shown

FEW = 20
"""Most values of whole floats that are taken for classes."""

_LARGEST = 3.4028234663852886e38  # of a float32, which is how scores are stored

Kind = Literal["missing", "bool", "truth", "int", "float", "number", "str", "other"]
"""Of one label as it is written, "truth" being true or false as a string; of a column as it is
read, "number" being classes that are called by numbers."""

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
# After `[0-9]+` no second run of digits may follow without a point: a million of them would be split in every way.
_NUMBER = re.compile(
    r"\s*[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)\s*", re.ASCII | re.IGNORECASE,
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
    return float(text) if _NUMBER.fullmatch(text) else text or None


def kind_of(value: Any) -> Kind:
    """Type of a label as it is written; a blank string is a missing label."""
    if value is None:
        return "missing"
    if isinstance(value, str):
        if not value or value.isspace():
            return "missing"
        return "truth" if len(value) < 6 and value.lower() in _TRUTH else "str"
    for written, kind in _TYPES:
        if isinstance(value, written):
            return kind
    return "other"


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
        kind = kind_of(value)
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

    @property
    def gaps(self) -> Seen:
        """Rows whose label is missing or -1. Of the two the place of a -1 is named: it could be
        taken for a label.
        """
        missing = self.kinds.get("missing", Seen())
        return Seen(missing.count + self.minus_one.count, self.minus_one.place or missing.place)

    @property
    def may_be_labelled(self) -> bool:
        """Whether some row says anything but -1."""
        return self.gaps.count < self.rows


@dataclass(frozen=True)
class LabelReader:
    """Turns raw labels into labels of `spec`; `column` is the type of a custom task's column, None
    for a fixed task.
    """

    spec: TaskSpec
    column: Kind | None = None

    def read(self, raw: Any, place: str, typed: bool) -> int | float:
        """Class index or score. UsageError with `place` for a value that is neither."""
        value = self._value(raw, typed)
        if self.spec.label_kind == "regression":
            return self._score(value, place)
        index = self._index.get(self.class_name(raw, typed)) if self.column else self._class(value)
        if index is None:
            number = self.column in ("int", "number") and kind_of(value) == "float"
            scores = " If labels are scores, give --label-kind regression." if number else ""
            fix = f"Correct the label or drop the row.{scores}"
            raise UsageError(self._rule(), f"{place}: {shown(value)}", fix)
        return index

    def gaps(self, survey: Survey) -> Seen:
        """Rows without a label: for `custom`, -1 means that only if it is all there is and train
        has no such label.
        """
        if self.column is None or not (survey.may_be_labelled or self._knows_minus_one):
            return survey.gaps
        return survey.kinds.get("missing", Seen())

    def is_gap(self, raw: Any, typed: bool) -> bool:
        """Whether a row of a split that has labels has none."""
        value = raw if typed else spelled(raw)
        kind = kind_of(value)
        minus_one = kind in ("int", "float") and value == -1
        return kind == "missing" or (self.column is None and minus_one)

    def class_name(self, raw: Any, typed: bool) -> str:
        """Name of a custom task's class: 7 and 7.0 as "7", truth values in lower case."""
        value = self._value(raw, typed)
        if isinstance(value, bool) or self.column == "bool":
            return str(value).lower()
        if isinstance(value, float) and self.column in ("int", "number") and value.is_integer():
            return str(int(value))
        return str(value)

    def _value(self, raw: Any, typed: bool) -> Any:
        return raw if typed or self.column in ("str", "bool") else spelled(raw)

    @cached_property
    def _index(self) -> Mapping[str, int]:
        names = self.spec.classes
        if self.column == "bool":
            names = tuple(name.lower() for name in names)
        return {name: index for index, name in enumerate(names)}

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


def custom_labels(
    spec: TaskSpec,
    surveys: Mapping[str, Survey],
    train: Callable[[], Iterable[tuple[Any, str]]],
    asked: str = "auto",
) -> tuple[LabelReader, list[str]]:
    """Kind, classes or range of a custom task's labels, and lines about what was assumed.

    `surveys` are the labelled splits, in order; `train` yields raw label and place of every row of
    the train split; `asked` is --label-kind. UsageError for two types in one column, for one single
    class, for scores that are all equal, for half a character, for names where scores are asked
    for.
    """
    kind, notices = column_kind(surveys, asked)
    if kind == "float":
        return _scores(spec, surveys["train"], train()), notices
    return _classes(spec, kind, surveys["train"], train()), notices


def _scores(spec: TaskSpec, survey: Survey, train: Iterable[tuple[Any, str]]) -> LabelReader:
    metrics = ("spearman", "pearson")
    reader = LabelReader(replace(spec, label_kind="regression", metrics=metrics), "float")
    low, high = _range(reader.read(raw, place, survey.typed) for raw, place in train)
    got = f"{low:g} in every row of train ({survey.source})"
    require(low < high, "regression needs labels that differ", got, "Check --label-column.")
    return replace(reader, spec=replace(reader.spec, label_range=(low, high)))


def _classes(
    spec: TaskSpec, kind: Kind, survey: Survey, train: Iterable[tuple[Any, str]]
) -> LabelReader:
    reader = LabelReader(spec, kind)
    names = set()
    spellings = set()
    for raw, place in train:
        name = reader.class_name(raw, survey.typed)
        if not encodes(name):
            got = f"{place}: {shown(name)} holds half of a surrogate pair"
            raise UsageError("a label can be written as UTF-8", got, "Correct the row.")
        names.add(name)
        if kind == "bool":
            spellings.add(raw)
        if kind == "number" and not math.isfinite(float(name)):
            fix = "Correct the label or drop the row."
            raise UsageError("a class that is a number is finite", f"{place}: {name}", fix)
    got = f"only {listed(list(names))} in train ({survey.source})"
    fix = "Without --label-column, states are stored without labels."
    require(len(names) > 1, "a classification needs two classes or more", got, fix)
    order = {"int": int, "number": float}.get(kind)
    classes = tuple(sorted(names, key=order))
    if len(spellings) == 2 and all(isinstance(spelling, str) for spelling in spellings):
        # Train's own spelling, which older stores have; True beside FALSE is nobody's.
        same = {spelling.lower(): spelling for spelling in spellings}
        style = {(name.islower(), name.isupper(), name.istitle()) for name in spellings}
        classes = tuple(same[name] for name in classes) if len(style) == 1 else classes
    metrics = ("accuracy", "f1") if len(classes) == 2 else ("accuracy",)
    spec = replace(spec, label_kind="classes", classes=classes, metrics=metrics)
    return replace(reader, spec=spec)


def known_labels(spec: TaskSpec) -> LabelReader:
    """The reader of a spec whose classes or range are settled, a custom task's too."""
    if spec.name != "custom" or spec.label_kind == "none":
        return LabelReader(spec)
    if spec.label_kind == "regression":
        return LabelReader(spec, "float")
    if tuple(sorted(name.lower() for name in spec.classes)) == _TRUTH:
        return LabelReader(spec, "bool")
    if all(_INTEGER.fullmatch(name) for name in spec.classes):
        return LabelReader(spec, "int")
    numbers = all(_is_canonical(name) for name in spec.classes)
    return LabelReader(spec, "number" if numbers else "str")


def _is_canonical(name: str) -> bool:
    """Whether a number is spelled as a class is called: 1, 0.5, but not 1.0, 01 or .5."""
    value = spelled(name)
    if isinstance(value, float):
        return math.isfinite(value) and not value.is_integer() and str(value) == name
    return isinstance(value, int) and str(value) == name


def column_kind(surveys: Mapping[str, Survey], asked: str = "auto") -> tuple[Kind, list[str]]:
    """How a label column is read in all splits, and lines about what was assumed. Train decides.

    UsageError, with `file:line`, where two types meet in the column, and for names where scores are
    asked for.
    """
    train = surveys["train"]
    names = "str" in train.kinds
    kinds: dict[Kind, str] = {}
    for survey in surveys.values():
        for kind, seen in survey.kinds.items():
            if kind != "missing":
                name = names and (not survey.typed or kind == "truth")
                kinds.setdefault(_as_read(kind, name), seen.place)
    found = " and ".join(f"{kind} (first in {place})" for kind, place in kinds.items())
    fix = "Write all labels as ints, all as strings, or all as floats."
    require("other" not in kinds, "a label is a number, a string, true or false", kinds.get("other"), fix)
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
    return kind, []


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
            f"labels {values} are written as floats (first in {floats.place}) and are whole and few, "
            "so they are read as classes; if they are scores: --label-kind regression"
        ]
    if not fraction.count:
        return "float", [
            f"labels are whole numbers written as floats (first in {floats.place}), more than {FEW} "
            "of them, so they are read as scores; if they are classes: --label-kind classes"
        ]
    return "float", []


def _range(scores: Iterable[float]) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for score in scores:
        low, high = min(low, score), max(high, score)
    return low, high

"""From what a file says in its label column to the label of an `Example`.

A task fixes what its labels mean; for `custom` the train split's column decides, or `--label-kind`.
In a typed source (JSON Lines, Parquet, the Hub) a value has the type it is written with, in a
textual one (csv, tsv) it is an integer, a number, a truth value or a name by its spelling, and a
few names beside as many numbers make names of the whole column (`survey`).

| train's column holds | label of the example | metrics |
| --- | --- | --- |
| ints (custom) | position among train's sorted ints | accuracy, and f1 for 2 classes |
| strings (custom) | position among train's sorted names | the same |
| true, false in any case (custom) | 0 = false, 1 = true | the same |
| whole floats, `FEW` at most | as ints: pandas writes 0.0 for 0 beside a gap | the same |
| other floats (custom) | the number; `label_range` = train's range | spearman, pearson |
| fixed task with classes | the int itself (1.0 counts), or a class's name | the task's |
| fixed task, regression | the number, inside the task's range | the task's |

Other splits are read as train's column says: 1.0 is the class 1, and 0.5 is an error where train
has ints. "No label" is a missing field, null, NaN, a blank string, in a textual source
NA and its like (`survey`), and -1 (GLUE's test sets). For
`custom`, -1 is a label like any other, unless a split other than train holds nothing else and train
does not know it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from glot_jax.errors import UsageError, require
from glot_jax.texts.quoting import encodes, listed, plain, shown
from glot_jax.texts.records import Seen
from glot_jax.texts.survey import (
    GAPS,
    Kind,
    Survey,
    column_kind,
    is_whole,
    kind_of,
    label_kind,
    spelled,
)
from glot_jax.texts.tasks import TaskSpec

_LARGEST = 3.4028234663852886e38  # of a float32, which is how scores are stored
_TRUTH = ("false", "true")


@dataclass(frozen=True)
class LabelReader:
    """Turns raw labels into labels of `spec`; `column` is the type of a custom task's column, None
    for a fixed task.
    """

    spec: TaskSpec
    column: Kind | None = None
    gap_kinds: frozenset[Kind] = GAPS
    """What is no label."""

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
        minus_one = not (survey.may_be_labelled or self._knows_minus_one)
        return survey.gaps(self.gap_kinds, minus_one=self.column is None or minus_one)

    def is_gap(self, raw: Any, typed: bool) -> bool:
        """Whether a row of a split that has labels has none."""
        kind = label_kind(raw, typed)
        minus_one = kind in ("int", "float") and (raw if typed else spelled(raw)) == -1
        return kind in self.gap_kinds or (self.column is None and minus_one)

    def class_name(self, raw: Any, typed: bool) -> str:
        """Name of a custom task's class: 7 and 7.0 as "7", truth values in lower case."""
        value = self._value(raw, typed)
        if self.column == "bool":
            name = str(value).strip().lower()
            return {"0": "false", "1": "true", "0.0": "false", "1.0": "true"}.get(name, name)
        if self.column == "int" and set(self.spec.classes) == {"0", "1"}:
            truth = str(value).strip().lower()
            value = _TRUTH.index(truth) if truth in _TRUTH else value
        if isinstance(value, bool):
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
        return (
            int(value)
            if number and 0 <= value < len(self.spec.classes) and value == int(value)
            else None
        )

    def _score(self, value: Any, place: str) -> float:
        number = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= _LARGEST
        )
        if not number:
            rule = f"a label of {self.spec.name} is a finite number"
            raise UsageError(rule, f"{place}: {shown(value)}", "Correct the label or drop the row.")
        low, high = (self.spec.label_range if self.column is None else None) or (
            -math.inf,
            math.inf,
        )
        if not low <= value <= high:
            rule = f"a label of {self.spec.name} is a number from {low:g} to {high:g}"
            raise UsageError(rule, f"{place}: {shown(value)}", "Rescale the labels.")
        return float(value)

    def _rule(self) -> str:
        classes = self.spec.classes
        if self.column:
            return f"the classes are those of the train split: {listed(classes)}"
        names = listed([f"{index} = {name}" for index, name in enumerate(classes)])
        return (
            f"a label of {self.spec.name} is a class from 0 to {len(classes) - 1} or its name"
            f" ({names})"
        )


def custom_labels(
    spec: TaskSpec,
    surveys: Mapping[str, Survey],
    train: Callable[[], Iterable[tuple[Any, str]]],
    asked: str = "auto",
    gaps: frozenset[Kind] = GAPS,
) -> tuple[LabelReader, list[str]]:
    """Kind, classes or range of a custom task's labels, and lines about what was assumed.

    `surveys` are the labelled splits, in order; `train` yields raw label and place of every row of
    the train split; `asked` is --label-kind; `gaps` are the kinds that are no label. UsageError for
    two types in one column, for one single class, for scores that are all equal, for half a
    character, for names where scores are asked for.
    """
    kind, notices = column_kind(surveys, asked, gaps)
    if kind == "float":
        return replace(_scores(spec, surveys["train"], train()), gap_kinds=gaps), notices
    reader = replace(_classes(spec, kind, surveys["train"], train()), gap_kinds=gaps)
    return reader, [*notices, *_alike(reader.spec.classes)]


def _alike(classes: Sequence[str]) -> list[str]:
    """A line about classes that differ in case or blanks alone, which are slips more often than
    not.
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(" ".join(name.split()).casefold(), []).append(name)
    alike = [" and ".join(map(repr, names)) for names in groups.values() if len(names) > 1]
    if not alike:
        return []
    said = listed(alike, spell=lambda names: plain(names, 80))
    return [f"classes that differ in case or blanks alone are classes of their own: {said}"]


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
    if (
        len(spellings) == 2
        and all(str(spelling).lower() in _TRUTH for spelling in spellings)
        and not any(isinstance(spelling, bool) for spelling in spellings)
    ):
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
    if all(is_whole(name) for name in spec.classes):
        return LabelReader(spec, "int")
    numbers = all(_is_canonical(name) for name in spec.classes)
    return LabelReader(spec, "number" if numbers else "str")


def _is_canonical(name: str) -> bool:
    """Whether a number is spelled as a class is called: 1, 0.5, but not 1.0, 01 or .5."""
    value = spelled(name)
    if isinstance(value, float):
        return math.isfinite(value) and not value.is_integer() and str(value) == name
    return isinstance(value, int) and str(value) == name


def _range(scores: Iterable[float]) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for score in scores:
        low, high = min(low, score), max(high, score)
    return low, high

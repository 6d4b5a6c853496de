"""From what a file says in its label column to the label of an `Example`.

A task fixes what its labels mean; for `custom` the train split's column decides, or `--label-kind`.
In a typed source (JSON Lines, Parquet, the Hub) a value has the type it is written with, in a
textual one (csv, tsv) it is an integer, a number, a truth value or a name by its spelling, and a
few names beside as many numbers make names of the whole column (`label_column`).

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
has ints. "No label" is a missing field, null, NaN, a blank string, in a textual source NA and its
like (`label_types`), and -1 (GLUE's test sets). For `custom`, -1 is a label like any other, unless
a split other than train holds nothing else and train does not know it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeGuard

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import listed, shown
from glot_jax.file_formats.records import Seen
from glot_jax.moved import moved_name
from glot_jax.texts.label_types import GAPS, Kind, Kinds, is_whole, kind_of, kind_of_label, spelled
from glot_jax.texts.survey import Survey
from glot_jax.texts.tasks import Label, TaskSpec

TRUTH = ("false", "true")
"""Names of the classes of a column of truth values."""

_TRUTH_NAMES = {"0": "false", "1": "true", "0.0": "false", "1.0": "true"}
"""A number as Python writes it -> the truth value that it stands for."""
_LARGEST = 3.4028234663852886e38  # of a float32, which is how scores are stored
_CORRECT = "Correct the label or drop the row."


RawLabels = Iterable[tuple[object, str]]
"""What stands in the label column of every row, and the row's location."""


class ReadsLabels(Protocol):
    """What turns the label column of a task into labels."""

    @property
    def spec(self) -> TaskSpec:
        """The task, with classes or range."""
        ...

    def read(self, raw: object, location: str, typed: bool) -> Label:
        """The label of a row.

        Raises:
            UsageError: with `location`, for a value that is none.
        """
        ...

    def gaps(self, survey: Survey) -> Seen:
        """Rows without a label."""
        ...

    def is_gap(self, raw: object, typed: bool) -> bool:
        """Tell whether a row of a split that has labels has none."""
        ...


@dataclass(frozen=True)
class LabelReader:
    """Turns raw labels into labels of `spec`."""

    spec: TaskSpec
    column: Kind | None = None
    """How a custom task's column is read; None for a fixed task."""
    gap_kinds: Kinds = GAPS
    """What is not a label."""

    def read(
        self,
        raw: object,
        location: str,
        typed: bool,
    ) -> int | float:
        """The class index or the score of a raw label.

        Raises:
            UsageError: with `location`, for a value that is neither.
        """
        value = self._value(raw, typed)
        # A score is its own label; everything else is the index of a class.
        if self.spec.label_kind == "regression":
            return self._score(value, location)
        if self.column is None:
            index = self._class(value)
        else:
            index = self._index.get(self.class_name(raw, typed))
        if index is None:
            fix = _CORRECT
            if self.column in ("int", "number") and kind_of(value) == "float":
                fix = f"{fix} If labels are scores, give --label-kind regression."
            raise UsageError(
                rule=self._rule(),
                got=f"{location}: {shown(value)}",
                fix=fix,
            )
        return index

    def gaps(self, survey: Survey) -> Seen:
        """Rows without a label.

        For `custom`, -1 means that only if it is all there is and train has no such label.
        """
        if self.column is None:
            return survey.gaps(self.gap_kinds)
        # GLUE's mark for a hidden label, and a class of -1, 0, 1 elsewhere.
        minus_one = not (survey.may_be_labelled or self._knows_minus_one)
        return survey.gaps(self.gap_kinds, minus_one=minus_one)

    def is_gap(self, raw: object, typed: bool) -> bool:
        """Tell whether a row of a split that has labels has none."""
        kind = kind_of_label(raw, typed)
        if kind in self.gap_kinds:
            return True
        if self.column is not None or kind not in ("int", "float"):
            return False
        value = raw if typed else spelled(raw)
        return value == -1

    def class_name(self, raw: object, typed: bool) -> str:
        """The name of a custom task's class: 7 and 7.0 as "7", truth values in lower case."""
        if self.column == "bool":
            # A file without types may spell 1 as 01 or 1.00.
            return _truth_name(raw if typed else spelled(raw))
        value = self._value(raw, typed)
        if self.column == "int" and {*self.spec.classes} == {"0", "1"}:
            # Another split may say true for train's 1.
            name = str(value).strip().lower()
            if name in TRUTH:
                return str(TRUTH.index(name))
        if isinstance(value, bool):
            return str(value).lower()
        has_numbers = self.column in ("int", "number")
        if has_numbers and isinstance(value, float) and value.is_integer():
            # pandas writes the class 7 as 7.0 in a column that has a gap.
            return str(int(value))
        return str(value)

    def _value(self, raw: object, typed: bool) -> object:
        # In a column of names, 01 and 1 are two of them: nothing is read as a number.
        if typed or self.column in ("str", "bool"):
            return raw
        return spelled(raw)

    @cached_property
    def _index(self) -> Mapping[str, int]:
        names = self.spec.classes
        if self.column == "bool":
            # The classes keep train's spelling, False as pandas writes it, and any is read.
            names = tuple(name.lower() for name in names)
        return {name: index for index, name in enumerate(names)}

    @property
    def _knows_minus_one(self) -> bool:
        low, high = self.spec.label_range or (0, 0)
        return "-1" in self.spec.classes or low <= -1 <= high

    def _class(self, value: object) -> int | None:
        if isinstance(value, str):
            return self._index.get(value)
        if not _is_number(value):
            return None
        if 0 <= value < len(self.spec.classes) and value == int(value):
            return int(value)
        return None

    def _score(self, value: object, location: str) -> float:
        # NaN is not comparable, infinity too large: the bound refuses both.
        if not _is_number(value) or not abs(value) <= _LARGEST:
            raise UsageError(
                rule=f"a label of {self.spec.name} must be a finite number",
                got=f"{location}: {shown(value)}",
                fix=_CORRECT,
            )
        # A custom task's range is what train happens to have; a fixed task's is its unit.
        if self.column is None and self.spec.label_range is not None:
            low, high = self.spec.label_range
            if not low <= value <= high:
                raise UsageError(
                    rule=f"a label of {self.spec.name} must be a number from {low:g} to {high:g}",
                    got=f"{location}: {shown(value)}",
                    fix="Rescale the labels.",
                )
        return float(value)

    def _rule(self) -> str:
        classes = self.spec.classes
        if self.column is not None:
            return f"classes must be those of the train split: {listed(classes)}"
        # Both: files of GLUE have the index, exports of the Hub the name.
        names = listed([f"{index} = {name}" for index, name in enumerate(classes)])
        return (
            f"a label of {self.spec.name} must be a class from 0 to {len(classes) - 1} or its name"
            f" ({names})"
        )


def _truth_name(value: object) -> str:
    """The truth value that a word or a number stands for; anything else as it is, in lower case."""
    name = str(value).strip().lower()
    return _TRUTH_NAMES.get(name, name)


def _is_number(value: object) -> TypeGuard[int | float]:
    # A bool is an int in Python, and true is not the score 1.
    return isinstance(value, int | float) and not isinstance(value, bool)


def known_labels(spec: TaskSpec) -> LabelReader:
    """The reader of a spec whose classes or range are settled, a custom task's too.

    A store keeps the spec and not the type of the column: that is found from the classes' names.
    """
    if not spec.is_from_data or spec.label_kind == "none":
        return LabelReader(spec)
    if spec.label_kind == "regression":
        return LabelReader(spec, "float")
    # Before numbers and names: true and false in any case are one type of their own.
    lowered = sorted(map(str.lower, spec.classes))
    if tuple(lowered) == TRUTH:
        return LabelReader(spec, "bool")
    # 01 is what no number is called: where it is a class, all classes are names.
    if all(map(_is_canonical, spec.classes)):
        kind: Kind = "int" if all(map(is_whole, spec.classes)) else "number"
        return LabelReader(spec, kind)
    # A class may be called none, which is no gap then.
    named = {kind_of(name) for name in spec.classes}
    return LabelReader(spec, "str", GAPS - named)


def _is_canonical(name: str) -> bool:
    """Tell whether a number is spelled as a class is called: 1, 0.5, but not 1.0, 01 or .5."""
    value = spelled(name)
    if isinstance(value, float):
        return math.isfinite(value) and not value.is_integer() and str(value) == name
    return isinstance(value, int) and str(value) == name


_MOVED = {
    "custom_labels": "texts.custom_labels",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)

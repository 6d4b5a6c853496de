"""Several classes a row: a list of their names, or a string with a separator between them.

| train's column holds | label of the example |
| --- | --- |
| lists of strings, or of whole numbers (JSON, JSON Lines, Parquet) | ascending indices of classes |
| strings, with `--label-separator` | the same, of the names between the separators |

The classes are those that train names. A row of none has an empty list, or a blank string. "No
label" is a missing field, null or NaN; where every row of a split is blank or without a field, the
split has no labels. `label_rows` reads what a caller from Python has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import listed, shown
from glot_jax.file_formats.records import Seen
from glot_jax.texts.custom_labels import alike_classes, require_storable
from glot_jax.texts.label_types import is_whole
from glot_jax.texts.labels import LabelReader, RawLabels, ReadsLabels, known_labels
from glot_jax.texts.survey import Survey
from glot_jax.texts.tasks import TaskSpec

METRICS = ("f1_micro", "f1_macro", "average_precision")
"""What tasks with several classes a row are judged by."""

_LISTS = (list, tuple, set, frozenset)
"""What a caller from Python may hold the classes of a row in."""
_CORRECT = "Correct the label or drop the row."
_NOT_ONE_TYPE = "the classes of a row must be of one type: all strings, or all whole numbers"


@dataclass(frozen=True)
class LabelListReader:
    """Turns lists of classes, or strings with a separator, into labels of `spec`."""

    spec: TaskSpec

    def read(self, raw: object, location: str, typed: bool) -> tuple[int, ...]:
        """Ascending indices of the classes that the row names.

        Raises:
            UsageError: with `location`, as for `names`; and for a class that train does not have.
        """
        del typed  # a list has types wherever it comes from, and a name with a separator has none
        indices: list[int] = []
        for name in self.names(raw, location):
            if name not in self._index:
                raise UsageError(
                    rule=f"classes must be those of the train split: {listed(self.spec.classes)}",
                    got=f"{location}: {shown(name)}",
                    fix=_CORRECT,
                )
            indices.append(self._index[name])
        return tuple(sorted(indices))

    def names(self, raw: object, location: str) -> list[str]:
        """The names of a row's classes, in its order.

        Raises:
            UsageError: with `location`, for what is no list (or, with a separator, no string), for
                two types in one list, for an empty name, and for one that occurs twice.
        """
        if self.spec.label_separator is None:
            names = _list_names(raw, location)
        else:
            names = self._separated(raw, location)
        seen: set[str] = set()
        for name in names:
            if not name.strip():
                raise UsageError(
                    rule="the name of a class must not be empty",
                    got=f"{location}: {shown(raw)}",
                    fix="A row without a class has an empty list, or an empty cell.",
                )
            if name in seen:
                raise UsageError(
                    rule="a row must name each of its classes once",
                    got=f"{location}: {shown(name)} twice in {shown(raw)}",
                    fix="Leave the repeats out.",
                )
            seen.add(name)
        return names

    def gaps(self, survey: Survey) -> Seen:
        """Rows without a label; all of them where none names a class in any way."""
        missing = survey.kinds.get("missing", Seen())
        # An empty cell is a row of no class beside others, and says nothing if it is all there is.
        if missing.count == survey.rows:
            return missing
        return survey.unset

    def is_gap(self, raw: object, typed: bool) -> bool:
        """Tell whether a row of a split that has labels has none."""
        del typed  # null is null in any file
        return raw is None or (isinstance(raw, float) and math.isnan(raw))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.spec.classes)}

    def _separated(self, raw: object, location: str) -> list[str]:
        if not isinstance(raw, str):
            raise UsageError(
                rule="--label-separator must be given for a column of strings",
                got=f"{location}: {shown(raw)}",
                fix="Leave it out where labels are lists, or write all labels as strings.",
            )
        if not raw.strip():
            return []
        # Blanks around a separator are typed for the eye: "a; b" is a and b.
        return [name.strip() for name in raw.split(self.spec.label_separator)]


def _list_names(raw: object, location: str) -> list[str]:
    if not isinstance(raw, list):
        raise UsageError(
            rule="a column of lists must have a list in every row",
            got=f"{location}: {shown(raw)}",
            fix="Write it as a list, [] for no class; names in one string need --label-separator.",
        )
    # By type and not by isinstance: True would be a whole number.
    types = {type(value) for value in raw}
    if not types <= {str} and not types <= {int}:
        raise UsageError(rule=_NOT_ONE_TYPE, got=f"{location}: {shown(raw)}", fix=_CORRECT)
    return [str(value) for value in raw]


def has_label_lists(config: ExtractConfig, survey: Survey) -> bool:
    """Whether a custom task's train split has several classes a row, or was said to have them."""
    if config.label_separator is not None or config.label_kind == "multilabel":
        return True
    lists = survey.kinds.get("list", Seen()).count
    # A few lists in a column of names are slips there, and a few names among lists are slips here.
    return config.label_kind == "auto" and 2 * lists > survey.rows - survey.gaps().count


def outline(config: ExtractConfig, spec: TaskSpec) -> LabelListReader:
    """The reader of a custom task's column before its classes are known."""
    return LabelListReader(
        replace(
            spec,
            label_kind="multilabel",
            metrics=METRICS,
            label_separator=config.label_separator,
        )
    )


def with_classes(
    reader: LabelListReader,
    survey: Survey,
    train: RawLabels,
) -> tuple[LabelListReader, list[str]]:
    """Find the classes in the rows of the train split.

    Args:
        reader: an outline.
        survey: of the train split.
        train: raw label and location of every row of it.

    Returns:
        The reader of the labels, and lines about what was found.

    Raises:
        UsageError: with `file:line`, as for `LabelListReader.names`; two types in one column, a
            separator that no row has, one single class.
    """
    # Of the train split alone: a class that only other splits have cannot be learned.
    classes: set[str] = set()
    first: dict[type, str] = {}
    rows = 0
    empty = 0
    several = 0
    for raw, location in train:
        names = reader.names(raw, location)
        rows += 1
        empty += not names
        several += len(names) > 1
        for name in names:
            require_storable(name, "str", location)
        classes.update(names)
        # Not of strings with a separator: nothing says that 7 in one of them is a number.
        if isinstance(raw, list) and raw:
            first.setdefault(type(raw[0]), location)
    if len(first) > 1:
        types = [f"{kind.__name__} (first in {location})" for kind, location in first.items()]
        raise UsageError(rule=_NOT_ONE_TYPE, got=" and ".join(types), fix=_CORRECT)
    separator = reader.spec.label_separator
    if separator is not None and several == 0:
        raise UsageError(
            rule="--label-separator must stand between classes of some training row",
            got=f"{shown(separator)} in none of {rows:,} rows of {survey.source}, whose labels are"
            f" {listed(sorted(classes)) or 'empty'}",
            fix="Check it; without --label-separator every label is a class.",
        )
    if len(classes) < 2:
        raise UsageError(
            rule="a classification needs two classes or more",
            got=f"only {listed(list(classes))} in train ({survey.source})",
            fix="Without --label-column, states are stored without labels.",
        )
    spec = replace(reader.spec, classes=_in_order(classes))
    said = f"labels: any of {len(classes)} classes a row; {empty:,} of {rows:,} rows have none"
    return LabelListReader(spec), [said, *alike_classes(spec.classes)]


def _in_order(classes: set[str]) -> tuple[str, ...]:
    """Numbers by their value, not 10 before 3; anything else by its letters."""
    if all(map(is_whole, classes)):
        # 01 and 1 are two names: the spelling decides between them.
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))


def reader_of(spec: TaskSpec) -> ReadsLabels:
    """The reader of a spec whose classes or range are settled."""
    # By the spec and not by the column: a file of a single row may look like either.
    if spec.label_kind == "multilabel":
        return LabelListReader(spec)
    reader: LabelReader = known_labels(spec)
    return reader


# --------------------------------------------------------------------------------------------------
# In memory


class LabelRows(NamedTuple):
    """The classes of some rows."""

    classes: np.ndarray
    """[classes], sorted: the labels that occur in lists; of an indicator the numbers of columns."""
    labels: list[tuple[int, ...]]
    """Of each row the ascending indices of its classes."""


def label_rows(y: object, rows: int) -> LabelRows | None:
    """The classes of rows that may have several.

    Args:
        y: a list, tuple or set of labels for each row; or a matrix of 0 and 1 with a column for
            each class: an array, a sparse matrix, a frame, or nested lists of nothing but 0 and 1,
            as scikit-learn reads them.
        rows: how many there must be.

    Returns:
        None where `y` has one label a row.

    Raises:
        UsageError: another number of rows, labels of two types in one place, a label that occurs
            twice in a row, a matrix of other values, fewer than two classes.
    """
    values: Any = y
    # scikit-learn's binarizer gives a sparse matrix for many classes.
    if hasattr(values, "toarray"):
        values = values.toarray()
    elif hasattr(values, "to_numpy"):
        values = values.to_numpy()
    matrix: np.ndarray | None = None
    lists: list[Any] = []
    if isinstance(values, np.ndarray) and values.ndim == 2:
        # A column of one label a row is no indicator.
        if values.shape[1] == 1:
            return None
        matrix = values
    elif isinstance(values, Iterable) and not isinstance(values, str):
        lists = list(values)
        if not any(isinstance(value, (*_LISTS, np.ndarray)) for value in lists):
            return None
        if _is_indicator(lists):
            matrix = np.array(lists)
    else:
        return None
    # An array has no truth value to choose by.
    count = len(lists) if matrix is None else len(matrix)
    if count != rows or rows == 0:
        raise UsageError(
            rule="there must be a list of labels for every text, at least one",
            got=f"{rows} texts and {count} lists",
            fix="Give as many as texts; [] for a text without a label.",
        )
    return _from_lists(lists) if matrix is None else _from_indicator(matrix)


def _is_indicator(values: list[Any]) -> bool:
    """Whether nested lists are a matrix of 0 and 1: no list of labels repeats itself like that."""
    # A set has no columns.
    if not all(isinstance(value, list | tuple | np.ndarray) for value in values):
        return False
    widths = set(map(len, values))
    if len(widths) != 1 or min(widths) < 2:
        return False
    numbers = (int, bool, np.integer, np.bool_)
    return all(isinstance(item, numbers) and item in (0, 1) for value in values for item in value)


def _from_indicator(matrix: np.ndarray) -> LabelRows:
    if not np.isin(matrix, (0, 1)).all():
        raise UsageError(
            rule="a matrix of labels must have a column for each class, of 0 and 1",
            got=shown(matrix[:2].tolist()),
            fix="Give a list of labels for each text, or MultiLabelBinarizer's matrix.",
        )
    _require_classes(np.arange(matrix.shape[1]))
    labels = [tuple(np.flatnonzero(row).tolist()) for row in matrix]
    return LabelRows(np.arange(matrix.shape[1]), labels)


def _from_lists(values: list[Any]) -> LabelRows:
    index: dict[Any, int] = {}
    types: set[type] = set()
    lists: list[list[Any]] = []
    for number, value in enumerate(values):
        if not isinstance(value, (*_LISTS, np.ndarray)):
            raise UsageError(
                rule="every text must have a list of labels, or every text one label",
                got=f"{shown(value)} in row {number}",
                fix="Write it as a list of one.",
            )
        labels = value.tolist() if isinstance(value, np.ndarray) else list(value)
        if len(set(labels)) != len(labels):
            raise UsageError(
                rule="a row must name each of its classes once",
                got=f"{shown(labels)} in row {number}",
                fix="Leave the repeats out.",
            )
        types.update(map(type, labels))
        index.update(dict.fromkeys(labels, 0))
        lists.append(labels)
    if len(types) > 1 or not types <= {str, int}:
        raise UsageError(
            rule="labels must be of one type: all strings, or all whole numbers",
            got=listed(sorted(kind.__name__ for kind in types)),
            fix="Give strings, or give numbers.",
        )
    classes = np.array(sorted(index))
    _require_classes(classes)
    numbers = {name: position for position, name in enumerate(classes.tolist())}
    return LabelRows(classes, [tuple(sorted(numbers[name] for name in row)) for row in lists])


def _require_classes(classes: np.ndarray) -> None:
    if len(classes) < 2:
        raise UsageError(
            rule="a classification needs two classes or more",
            got=f"only {shown(classes.tolist())}",
            fix="Give rows of another class too.",
        )

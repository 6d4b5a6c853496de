"""Several classes a row: a list of their names, or a string with a separator between them.

| train's column holds | label of the example |
| --- | --- |
| lists of strings, or of whole numbers (JSON, JSON Lines, Parquet) | ascending indices of classes |
| strings, with `--label-separator` | the same, of the names between the separators |

The classes are those that train names. A row of none has an empty list, or a blank string. "No
label" is a missing field, null or NaN; where every row of a split is blank or without a field, the
split has no labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

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
    if spec.label_kind == "multilabel":
        return LabelListReader(spec)
    reader: LabelReader = known_labels(spec)
    return reader

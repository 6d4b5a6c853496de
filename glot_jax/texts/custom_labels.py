"""The classes or the range of a custom task's labels, from the rows of its train split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import replace

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import encodes, listed, plain, shown
from glot_jax.texts.label_column import column_kind
from glot_jax.texts.label_types import GAPS, Kind, Kinds
from glot_jax.texts.labels import TRUTH, LabelReader, RawLabels
from glot_jax.texts.survey import Survey, Surveys
from glot_jax.texts.tasks import TaskSpec


def custom_labels(
    spec: TaskSpec,
    surveys: Surveys,
    train: Callable[[], RawLabels],
    requested_kind: str = "auto",
    gaps: Kinds = GAPS,
) -> tuple[LabelReader, list[str]]:
    """Find kind, classes or range of a custom task's labels.

    Args:
        spec: the task with the columns that the user named.
        surveys: the labelled splits, in the task's order.
        train: yields raw label and location of every row of the train split.
        requested_kind: the value of --label-kind.
        gaps: what is not a label.

    Returns:
        The reader of the labels, and lines about what was assumed.

    Raises:
        UsageError: two types in one column, one single class, scores that are all equal, half a
            character, names where scores are requested.
    """
    # Types come first: with them settled, one pass finds classes or range.
    kind, notices = column_kind(surveys, requested_kind, gaps)
    if kind == "float":
        reader = _scores(spec, surveys["train"], train())
        return replace(reader, gap_kinds=gaps), notices
    reader = _classes(spec, kind, surveys["train"], train())
    notices += alike_classes(reader.spec.classes)
    return replace(reader, gap_kinds=gaps), notices


def alike_classes(classes: Sequence[str]) -> list[str]:
    """A line about classes that differ in case or blanks alone.

    They are slips more often than not; none is merged, since nobody said so.
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        # As two people would write one name; accents and spelling are left as differences.
        folded = " ".join(name.split()).casefold()
        groups.setdefault(folded, []).append(name)
    alike: list[str] = []
    for names in groups.values():
        if len(names) > 1:
            alike.append(" and ".join(map(repr, names)))
    if not alike:
        return []

    def spell(names: str) -> str:
        return plain(names, 80)

    said = listed(alike, spell=spell)
    return [f"classes that differ in case or blanks alone are classes of their own: {said}"]


def _scores(spec: TaskSpec, survey: Survey, train: RawLabels) -> LabelReader:
    metrics = ("spearman", "pearson")
    # Read by the reader itself: its errors name the row of a score that is infinite.
    reader = LabelReader(replace(spec, label_kind="regression", metrics=metrics), "float")
    low = math.inf
    high = -math.inf
    for raw, location in train:
        score = reader.read(raw, location, survey.typed)
        low = min(low, score)
        high = max(high, score)
    if low >= high:
        # No correlation can be computed of them.
        raise UsageError(
            rule="regression needs labels that differ",
            got=f"{low:g} in every row of train ({survey.source})",
            fix="Check --label-column.",
        )
    spec = replace(reader.spec, label_range=(low, high))
    return replace(reader, spec=spec)


def _classes(
    spec: TaskSpec,
    kind: Kind,
    survey: Survey,
    train: RawLabels,
) -> LabelReader:
    reader = LabelReader(spec, kind)
    # As strings: the table of classes that a store keeps has no other type.
    names: set[str] = set()
    spellings: set[object] = set()
    for raw, location in train:
        name = reader.class_name(raw, survey.typed)
        require_storable(name, kind, location)
        names.add(name)
        # Of true and 1 there are a few spellings: this set stays small.
        if kind == "bool":
            spellings.add(raw)
    if len(names) < 2:
        raise UsageError(
            rule="a classification needs two classes or more",
            got=f"only {listed(list(names))} in train ({survey.source})",
            fix="Without --label-column, states are stored without labels.",
        )
    classes = _sorted_classes(names, kind)
    if kind == "bool":
        classes = _in_trains_spelling(classes, spellings)
    # F1 is of the class 1, so that it needs two of them.
    metrics = ("accuracy", "f1") if len(classes) == 2 else ("accuracy",)
    spec = replace(spec, label_kind="classes", classes=classes, metrics=metrics)
    return replace(reader, spec=spec)


def _sorted_classes(names: Set[str], kind: Kind) -> tuple[str, ...]:
    """The classes in the order of their labels: numbers by their value, not 10 before 3."""
    if kind == "int":
        return tuple(sorted(names, key=int))
    if kind == "number":
        return tuple(sorted(names, key=float))
    return tuple(sorted(names))


def require_storable(name: str, kind: Kind, location: str) -> None:
    """Raise UsageError for the name of a class that a manifest cannot hold."""
    if not encodes(name):
        raise UsageError(
            rule="a label must be encodable as UTF-8",
            got=f"{location}: {shown(name)} holds half of a surrogate pair",
            fix="Correct the row.",
        )
    if kind == "number" and not math.isfinite(float(name)):
        raise UsageError(
            rule="a class that is a number must be finite",
            got=f"{location}: {name}",
            fix="Correct the label or drop the row.",
        )


def _in_trains_spelling(classes: tuple[str, ...], spellings: Set[object]) -> tuple[str, ...]:
    """False and true as train writes them, where it writes both as words and in one way.

    Older stores have train's own spelling; True beside FALSE is nobody's.
    """
    by_name: dict[str, str] = {}
    styles: set[tuple[bool, bool, bool]] = set()
    for spelling in spellings:
        # A label of JSON is the bool itself, which has no spelling.
        if not isinstance(spelling, str) or spelling.lower() not in TRUTH:
            return classes
        by_name[spelling.lower()] = spelling
        # All lower, all upper, or both in title case.
        styles.add((spelling.islower(), spelling.isupper(), spelling.istitle()))
    if len(spellings) != 2 or len(styles) > 1:
        return classes
    return tuple(by_name[name] for name in classes)

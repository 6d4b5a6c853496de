"""How a custom task's label column is read: as classes or as scores, and as which ones.

The train split decides, and what was assumed is said in a line. A few names beside numbers are a
slip, and an error that names the first, unless `--label-kind classes` makes names of all.
"""

from __future__ import annotations

from collections.abc import Mapping

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import listed
from glot_jax.file_formats.records import Seen
from glot_jax.texts.label_types import GAPS, Kind, Kinds
from glot_jax.texts.survey import FEW, Survey, Surveys

_FEW_NAMES = 0.1
"""Names beside numbers are a slip if they are at most this share of the numbers, or one alone."""
_GROUPS = {"bool": "truth value", "int": "number", "float": "number", "str": "name"}
"""Type of a label -> what messages call it; labels of two groups do not go together."""
_PARTS: dict[Kind, str] = {"other": "an object", "list": "a list"}
_ONE_TYPE = "Write all labels as ints, all as strings, or all as floats."


def column_kind(
    surveys: Surveys,
    requested_kind: str = "auto",
    gaps: Kinds = GAPS,
) -> tuple[Kind, list[str]]:
    """Decide how a label column is read in all splits.

    Args:
        surveys: the labelled splits by name, train among them.
        requested_kind: the value of --label-kind.
        gaps: what is not a label.

    Returns:
        The type of the column, and lines about what was assumed.

    Raises:
        UsageError: with `file:line`, where two types meet in the column, and for names where
            scores are requested.
    """
    train = surveys["train"]
    # First: in a file without types, one name makes names of all numbers below.
    _require_no_slip(train, requested_kind)
    kinds = _kinds_as_read(surveys, gaps)
    for kind in ("other", "list"):
        if kind in kinds:
            raise UsageError(
                rule="a label must be a number, a string, true or false",
                got=f"{kinds[kind]}: {_PARTS[kind]}",
                fix=f"{_ONE_TYPE} Lists are read as several classes a row where every row of train"
                " has one (--label-kind multilabel).",
            )
    if requested_kind != "regression" and _are_truth_values(surveys, kinds):
        return _truth_kind(train), []
    _require_one_type(kinds)
    if "int" in kinds or "float" in kinds:
        kind, notices = _number_kind(train, requested_kind)
        # Train says that labels are classes, so floats of another split are read as such.
        if kind == "int" and "float" not in train.kinds:
            notices += _other_floats(surveys)
        return kind, notices
    kind, location = next(iter(kinds.items()))
    if requested_kind == "regression":
        raise UsageError(
            rule="--label-kind regression needs numbers",
            got=f"{_GROUPS[kind]}s, first in {location}",
            fix="Leave it out, or check --label-column.",
        )
    if kind == "str":
        return kind, _mixed(train, requested_kind, gaps)
    return kind, []


def _truth_kind(train: Survey) -> Kind:
    """How a column of nothing but true, false, 1 and 0 is read.

    pandas writes True and False in one file and 1 and 0 in the next: the train split's way names
    the classes.
    """
    if "bool" in train.kinds or "truth" in train.kinds:
        return "bool"
    return "int"


def _require_one_type(kinds: Mapping[Kind, str]) -> None:
    """Raise UsageError where labels of two groups meet, with the first of each."""
    if len({_GROUPS[kind] for kind in kinds}) != 1:
        types = [f"{kind} (first in {location})" for kind, location in kinds.items()]
        raise UsageError(
            rule="a column must have labels of one type",
            got=" and ".join(types),
            fix=_ONE_TYPE,
        )


def _kinds_as_read(surveys: Surveys, gaps: Kinds) -> dict[Kind, str]:
    """Types of the column as it is read -> location of the first label of each."""
    has_names = "str" in surveys["train"].kinds
    kinds: dict[Kind, str] = {}
    for survey in surveys.values():
        for kind, seen in survey.kinds.items():
            if kind in gaps:
                continue
            # NA and its like, where they are not a gap; and in a file without types everything
            # beside a name: 7 and true are names there, since nothing says that they are not.
            is_name = kind in GAPS or (has_names and (not survey.typed or kind == "truth"))
            if is_name:
                kind_as_read: Kind = "str"
            elif kind == "truth":
                kind_as_read = "bool"
            else:
                kind_as_read = kind
            kinds.setdefault(kind_as_read, seen.location)
    return kinds


def _are_truth_values(surveys: Surveys, kinds: Mapping[Kind, str]) -> bool:
    """Tell whether all labels are true, false, 1 or 0, and some are words."""
    if "bool" not in kinds or not {*kinds} <= {"bool", "int", "float"}:
        return False
    return all(survey.numbers <= {0, 1} for survey in surveys.values())


def _numbers(train: Survey) -> list[Seen]:
    kinds: tuple[Kind, ...] = ("int", "float")
    return [train.kinds[kind] for kind in kinds if kind in train.kinds]


def _require_no_slip(train: Survey, requested_kind: str) -> None:
    """Raise UsageError for a word or a few among numbers.

    A question mark in a column of scores is no reason to make a class of every score.
    """
    name = train.kinds.get("str")
    numbers = _numbers(train)
    if name is None or not numbers or train.typed or requested_kind == "classes":
        return
    count = sum(seen.count for seen in numbers)
    is_only_one = name.count == 1 and count > 2
    are_few = name.count <= _FEW_NAMES * count or is_only_one
    # Fractions are scores, even where more than a few words stand among them.
    are_scores = train.fraction.count > 0 and name.count < count and count > 2
    if are_few or are_scores:
        raise UsageError(
            rule="labels must be numbers or names, not both",
            got=f"{name.location}: a name, one of {name.count} among {count} numbers",
            fix="Correct the label or empty it (--drop-unlabelled leaves out rows without one). "
            "If numbers and names are classes: --label-kind classes.",
        )


def _mixed(
    train: Survey,
    requested_kind: str,
    gaps: Kinds,
) -> list[str]:
    """Lines about numbers, and about NA and its like, among names."""
    # Whoever asks for classes has said that all of these are names.
    if requested_kind == "classes":
        return []
    lines: list[str] = []
    numbers = _numbers(train)
    if numbers and not train.typed:
        name = train.kinds["str"]
        count = sum(seen.count for seen in numbers)
        lines.append(
            f"labels: {count} are numbers and {name.count} are names "
            f"(first in {name.location}), so all of them are read as names"
        )
    absent = train.kinds.get("absent")
    if absent is not None and "absent" not in gaps:
        lines.append(
            f"labels: {absent.count} rows say NA, null or None (first in {absent.location}); "
            "beside names that is read as a class. If they have no label: --drop-unlabelled"
        )
    return lines


def _other_floats(surveys: Surveys) -> list[str]:
    """Lines about splits in which train's classes are written as floats.

    pandas writes ints so in a column that has a gap.
    """
    lines: list[str] = []
    for name, survey in surveys.items():
        seen = survey.kinds.get("float")
        # Said, not refused: the values are the same, only their spelling is not.
        if seen is not None:
            lines.append(
                f"{name}: labels written as floats, {seen.count}, first {seen.location}, are read "
                "as train's classes; if all labels are scores: --label-kind regression"
            )
    return lines


def _number_kind(train: Survey, requested_kind: str) -> tuple[Kind, list[str]]:
    """Decide whether train's numbers are classes or scores."""
    floats = train.kinds.get("float")
    has_fractions = train.fraction.count > 0
    # 0.0 is what pandas makes of 0 beside a gap: whole and few is as good as an int.
    look_like_classes = floats is None or (not has_fractions and len(train.numbers) <= FEW)
    source = f"({train.source})"
    if requested_kind == "regression":
        # They would have been scores anyway: there is nothing to say.
        if not look_like_classes:
            return "float", []
        said = f"labels are read as scores, since --label-kind regression says so {source}"
        return "float", [said]
    if requested_kind == "classes":
        # A class that is called 0.5 keeps its name; whole floats are called by ints.
        kind: Kind = "number" if has_fractions else "int"
        if floats is None:
            return kind, []
        said = f"labels are read as classes, since --label-kind classes says so {source}"
        return kind, [said]
    if floats is None:
        return "int", []
    if look_like_classes:
        whole = map(int, sorted(train.numbers))
        values = listed([str(number) for number in whole])
        return "int", [
            f"labels {values} are written as floats (first in {floats.location}) and are whole and"
            " few, so they are read as classes; if they are scores: --label-kind regression"
        ]
    if not has_fractions:
        return "float", [
            f"labels are whole numbers written as floats (first in {floats.location}), more than "
            f"{FEW} of them, so they are read as scores; if they are classes: --label-kind classes"
        ]
    return "float", []

"""What one pass over a split counts: its rows, and the types of its labels with their first line.

What is not a label depends on the column: NA beside names is a name like any other, with a line
that says so, unless rows without a label are to be left out (`--drop-unlabelled` without
`--label-kind classes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glot_jax.file_formats.records import Seen
from glot_jax.moved import moved_name
from glot_jax.texts.label_types import GAPS, Kind, Kinds, kind_of_label, spelled

FEW = 20
"""Most values of whole floats that are taken for classes."""


@dataclass
class Survey:
    """What one pass over a split counted."""

    source: str
    """The file or data set, for messages."""
    typed: bool
    """Whether its labels have types."""
    rows: int = 0
    kinds: dict[Kind, Seen] = field(default_factory=dict)
    """Type of a label -> its rows, in the order of their first occurrence."""
    minus_one: Seen = field(default_factory=Seen)
    """Labels that are -1, as GLUE's test sets have."""
    fraction: Seen = field(default_factory=Seen)
    """Numbers that are not whole."""
    numbers: set[float] = field(default_factory=set)
    """Values of the numbers, a few more than `FEW` of them at most."""
    unset: Seen = field(default_factory=Seen)
    """Labels that are null, NaN or not there: among `missing` those that are no blank string."""
    columns: tuple[str, ...] = ()
    """Names of the columns that some row has."""

    def add(self, raw: object, location: str) -> None:
        """Count the label of one more row."""
        value = raw if self.typed else spelled(raw)
        kind = kind_of_label(raw, self.typed)
        self.rows += 1
        # The first place of each type: where two meet, the message names both.
        self.kinds.setdefault(kind, Seen()).add(location)
        if kind == "missing" and not isinstance(raw, str):
            self.unset.add(location)
        if kind not in ("int", "float") or not isinstance(value, int | float):
            return
        # Counted apart and not as a gap: whether it is one depends on the task.
        if value == -1:
            self.minus_one.add(location)
        if isinstance(value, float) and not value.is_integer():
            self.fraction.add(location)
        # A million different scores need not be held to know that they are many.
        if len(self.numbers) <= FEW:
            self.numbers.add(value)

    def gaps(self, kinds: Kinds = GAPS, *, minus_one: bool = True) -> Seen:
        """Rows whose label is of these kinds or -1.

        The location of a -1 is named before others: it could be taken for a label.
        """
        gaps = Seen()
        if minus_one:
            gaps = Seen(self.minus_one.count, self.minus_one.location)
        for kind, seen in self.kinds.items():
            if kind in kinds:
                gaps.location = gaps.location or seen.location
                gaps.count += seen.count
        return gaps

    @property
    def may_be_labelled(self) -> bool:
        """Whether some row says anything but -1."""
        return self.gaps().count < self.rows


Surveys = Mapping[str, Survey]
"""Split -> what was counted there."""


def gap_kinds(train: Survey, requested_kind: str, *, drop: bool) -> Kinds:
    """What is not a label in a column.

    Args:
        train: the train split's.
        requested_kind: the value of --label-kind; `classes` makes names of everything written.
        drop: whether rows without a label are left out, so that NA is one of them even among
            names.
    """
    # Beside numbers and truth values nothing that spells `missing` can be a label.
    if "str" not in train.kinds:
        return GAPS
    # The user has said that every spelling is a name; an empty field has none.
    if requested_kind == "classes":
        return frozenset(("missing",))
    if drop:
        return GAPS
    return frozenset(("missing", "null"))


_MOVED = {
    "is_whole": "texts.label_types",
    "kind_of": "texts.label_types",
    "column_kind": "texts.label_column",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)

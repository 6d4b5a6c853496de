"""What came of a card of the paper: its runs, or its measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class CardRun:
    """One trained variant and seed."""

    task: str
    variant: str
    """Its label on the card."""
    seed: int
    lr: float
    """The rate that the selecting split chose."""
    scores: Mapping[str, Mapping[str, float]]
    """Split, or linear_probe -> metrics at the best epoch."""
    run: str
    """Run folder."""
    parameters: int
    seconds: float
    """Of the training."""


@dataclasses.dataclass(frozen=True)
class CardResult:
    """One card, as far as it was run."""

    title: str
    missing: tuple[str, ...]
    """A line for each part of the table that was not run."""
    note: str
    tasks: tuple[str, ...]
    runs: Sequence[CardRun] | None
    """None: the card trains nothing of its own."""
    records: Sequence[Mapping[str, Any]] | None
    """Measurements, or trials of a search; None: there are none."""

    def to_json(self) -> dict[str, Any]:
        """The card as it stands in cards.json: with `runs` or `records`, or neither."""
        values: dict[str, Any] = {
            "title": self.title,
            "missing": list(self.missing),
            "note": self.note,
            "tasks": list(self.tasks),
        }
        # A quoted card has neither key.
        if self.runs is not None:
            # An empty list says something else than no key: nothing could be run.
            values["runs"] = [dataclasses.asdict(run) for run in self.runs]
        if self.records is not None:
            # Plain values already: kinds of measurements have fields of their own.
            values["records"] = list(self.records)
        return values

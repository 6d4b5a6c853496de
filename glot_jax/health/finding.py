"""`Finding`: one thing that looks wrong, with the numbers that say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

FindingName = Literal[
    "not-learned",
    "loss-grew",
    "large-states",
    "small-selection",
    "missing-classes",
    "below-linear",
]
"""What may be found; `docs/health.md` says when, and what to try."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that looks wrong with a run. It stops nothing."""

    name: FindingName
    text: str
    """A line for people, with the numbers and what to try."""
    values: Mapping[str, float]
    """The numbers by name."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in summary.json, in the list `health`."""
        return {"name": self.name, "text": self.text, "values": dict(self.values)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        """What `to_json` returned.

        Raises:
            KeyError: a part is missing.
        """
        return cls(values["name"], values["text"], values["values"])

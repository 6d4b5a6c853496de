"""Results of a stress test.

A setting, the scores in stress.json, the intervals and differences in comparison.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glot_jax.files import read_json
from glot_jax.reporting.statistics import Difference, Interval

RECORDS = "stress.json"
COMPARISONS = "comparison.json"


@dataclasses.dataclass(frozen=True)
class StressSetting:
    """One test: its texts are made once, and every pooler is judged on them."""

    protocol: str
    ratio: float
    """Share of distractor words."""
    distance: int = 0
    """Words between the two related ones; 0: as the protocol puts them."""
    position: float | None = None
    """Where in the text the related words stand, 0 to 1; None: anywhere."""
    layer: int | None = None
    """Whose states are pooled; None: the last."""
    sinks: str | None = None
    """What is done about attention sinks, where it was asked for; None: as train.py does."""

    @property
    def name(self) -> str:
        """The part of its store's name behind that of the backbone."""
        parts = [self.protocol, f"{self.ratio:g}"]
        # Left out where it is not set: stores of earlier versions keep their names.
        if self.distance:
            parts.append(f"distance{self.distance}")
        if self.position is not None:
            parts.append(f"position{self.position:g}")
        if self.layer is not None:
            parts.append(f"layer{self.layer}")
        # Not the sinks: a store has them all.
        return "-".join(parts)

    @property
    def where(self) -> str:
        """`, distance 3, position 0.5`, and so on, as far as they are set."""
        text = ""
        if self.distance:
            text += f", distance {self.distance:g}"
        if self.position is not None:
            text += f", position {self.position:g}"
        if self.layer is not None:
            text += f", layer {self.layer}"
        if self.sinks is not None:
            text += ", sinks kept" if self.sinks == "keep" else ", sinks left out"
        return text

    def to_json(self) -> dict[str, Any]:
        """Its fields of a record: distance and position where they are set, and so on."""
        # What is not set is left out: earlier versions knew fewer axes.
        fields: dict[str, Any] = {"protocol": self.protocol, "ratio": self.ratio}
        if self.distance:
            fields["distance"] = self.distance
        if self.position is not None:
            fields["position"] = self.position
        if self.layer is not None:
            fields["layer"] = self.layer
        if self.sinks is not None:
            fields["sinks"] = self.sinks
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> StressSetting:
        """The setting of a record."""
        return cls(
            fields["protocol"],
            fields["ratio"],
            # Left out where it was not set.
            fields.get("distance") or 0,
            fields.get("position"),
            fields.get("layer"),
            fields.get("sinks"),
        )


@dataclasses.dataclass(frozen=True)
class StressRecord:
    """The test accuracy of one pooler trained with one seed, or of one control."""

    setting: StressSetting
    name: str
    """Of the pooler, or of the control."""
    seed: int
    """Of the training; of the data for a control, which is not trained from a seed."""
    accuracy: float
    training: StressTraining | None = None
    """None: a control."""

    @property
    def label(self) -> str:
        """The name, with the word control before that of one."""
        if self.training is None:
            return f"control: {self.name}"
        return self.name

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in stress.json."""
        kind = "control" if self.training is None else "pooler"
        fields = self.setting.to_json()
        # The field is called by what it names, as in files of earlier versions.
        fields |= {
            kind: self.name,
            "seed": self.seed,
            "accuracy": self.accuracy,
        }
        if self.training is not None:
            fields |= dataclasses.asdict(self.training)
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> StressRecord:
        """The record that `to_json` made these fields of."""
        # The field that holds the name tells a pooler from a control.
        training = None
        if "pooler" in fields:
            training = StressTraining(
                fields["lr"],
                fields["validation"],
                fields["parameters"],
                fields["seconds"],
            )
        return cls(
            StressSetting.from_json(fields),
            fields["control"] if training is None else fields["pooler"],
            fields["seed"],
            fields["accuracy"],
            training,
        )


@dataclasses.dataclass(frozen=True)
class StressTraining:
    """How a judged pooler was trained."""

    lr: float
    """The learning rate that the validation split chose."""
    validation: float
    """Accuracy on that split."""
    parameters: int
    seconds: float
    """Of the training."""


@dataclasses.dataclass(frozen=True)
class StressComparison:
    """The interval of a pooler's accuracy over test rows, and its difference to glot."""

    setting: StressSetting
    pooler: str
    rows: int
    independent: int
    """Rows, or pairs of twins where the texts come in twins."""
    accuracy: float
    """Mean over seeds."""
    deviation: float | None
    interval: Interval | None
    difference: Difference | None
    """glot minus this pooler; None for glot itself and where it was not trained."""

    def to_json(self) -> dict[str, Any]:
        """The comparison as it stands in comparison.json."""
        fields = self.setting.to_json()
        fields |= {
            "pooler": self.pooler,
            "rows": self.rows,
            "independent": self.independent,
            "accuracy": self.accuracy,
            "deviation": self.deviation,
            "interval": self.interval,
        }
        if self.difference is not None:
            fields |= {
                "glot_minus_this": self.difference.value,
                "difference_interval": self.difference.interval,
                "p": self.difference.p,
                "p_seeds": self.difference.p_seeds,
            }
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> StressComparison:
        """The comparison that `to_json` made these fields of; earlier versions wrote fewer."""
        difference = None
        # Absent for glot itself, and where it was not trained.
        if "glot_minus_this" in fields:
            difference = Difference(
                fields["glot_minus_this"],
                _interval(fields.get("difference_interval")),
                fields["p"],
                fields.get("p_seeds"),
            )
        return cls(
            StressSetting.from_json(fields),
            fields["pooler"],
            fields.get("rows", 0),
            fields.get("independent", 0),
            # Not 0, which would be an accuracy.
            fields.get("accuracy", float("nan")),
            fields.get("deviation"),
            _interval(fields.get("interval")),
            difference,
        )


def _interval(bounds: list[float] | None) -> Interval | None:
    if bounds is None:
        return None
    return Interval(*bounds)


def read_records(folder: Path) -> list[StressRecord]:
    """The records of FOLDER/stress.json.

    Raises:
        UsageError: the file is missing or damaged.
    """
    # A test that is still running has the settings that are done.
    return [StressRecord.from_json(fields) for fields in read_json(folder / RECORDS)]


def read_comparisons(folder: Path) -> list[StressComparison]:
    """The comparisons of FOLDER/comparison.json; none where an earlier version left it out.

    Raises:
        UsageError: the file is damaged.
    """
    # Without it the scores alone are shown: the report of an old test is still a report.
    path = folder / COMPARISONS
    if not path.exists():
        return []
    return [StressComparison.from_json(fields) for fields in read_json(path)]

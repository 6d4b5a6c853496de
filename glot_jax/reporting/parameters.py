"""The parameters of a model, part by part: what is trained, and what is computed beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from flax import nnx

from glot_jax.model import SentenceModel

STAGES = ("stem", "pooler", "head")
"""Parts of a SentenceModel, in the order in which a text passes them."""

PartPath = tuple[str | int, ...]
"""Names of attributes and numbers in lists, from the model down to a part."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """Numbers of a part."""

    trained: int = 0
    statistics: int = 0
    """Running averages and the like, computed and not trained."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.trained + other.trained, self.statistics + other.statistics)


@dataclasses.dataclass(frozen=True)
class Part:
    """A module of the model, or a lone array of a stage."""

    path: PartPath
    type: str
    """Class: GAT, AttentionReadout, Linear ...; Param or BatchStat for a lone array."""
    counts: Counts

    @property
    def name(self) -> str:
        """Dotted path in the model, GNN layer by layer."""
        return ".".join(map(str, self.path))


@dataclasses.dataclass(frozen=True)
class Census:
    """Parameters of a model by part, and their sums."""

    parts: tuple[Part, ...]
    """Stage by stage, trained parts of a stage before others."""

    def stage(self, name: str) -> Counts:
        """Sum over the parts of a stage."""
        counts = Counts()
        for part in self.parts:
            # The first name of a path is that of the stage.
            if part.path[0] == name:
                counts += part.counts
        return counts

    @property
    def total(self) -> Counts:
        """Sum over all parts."""
        return sum(map(self.stage, STAGES), Counts())

    def to_json(self) -> dict[str, Any]:
        """`parts`, and sums for stem, pooler, head and total."""
        values: dict[str, Any] = {"parts": []}
        for part in self.parts:
            counts = dataclasses.asdict(part.counts)
            entry = {"part": part.name, "type": part.type, **counts}
            values["parts"].append(entry)
        for stage in STAGES:
            values[stage] = dataclasses.asdict(self.stage(stage))
        values["total"] = dataclasses.asdict(self.total)
        return values


def count_parts(model: SentenceModel) -> Census:
    """Count the numbers of every part from the tree of the model's variables."""
    # Everything that is not a Param is computed: running averages, counters, buffers.
    _, trained, others = nnx.split(model, nnx.Param, ...)
    counts: dict[PartPath, Counts] = {}
    for path, variable in nnx.to_flat_state(trained):
        size = math.prod(variable.shape)
        _add(counts, path, Counts(trained=size))
    for path, variable in nnx.to_flat_state(others):
        size = math.prod(variable.shape)
        _add(counts, path, Counts(statistics=size))
    parts = []
    for path, of_part in counts.items():
        # A part is named by its class in the built model: the tree knows no classes.
        parts.append(Part(path, _type(model, path), of_part))
    parts.sort(key=_order)
    return Census(tuple(parts))


def _add(
    counts: dict[PartPath, Counts],
    path: Sequence[Any],
    more: Counts,
) -> None:
    part = _part(path)
    counts[part] = counts.get(part, Counts()) + more


def _part(path: Sequence[Any]) -> PartPath:
    """The part that a variable belongs to.

    A module of a list, whatever is inside it; else the stage's direct member.
    """
    for index, name in enumerate(path):
        # The outermost list: a layer of a GNN is one part, whatever its own lists hold.
        if isinstance(name, int):
            return tuple(path[: index + 1])
    return tuple(path[:2])


def _order(part: Part) -> tuple[int, bool, list[tuple[int, str]]]:
    stage, *names = part.path
    # In the order in which a text passes them; what is not trained stands behind what is.
    stage_number = STAGES.index(str(stage))
    is_untrained = part.counts.trained == 0
    return stage_number, is_untrained, list(map(_name_order, names))


def _name_order(name: str | int) -> tuple[int, str]:
    # Layer 10 comes after layer 9.
    if isinstance(name, int):
        return (name, "")
    return (0, name)


def _type(model: SentenceModel, path: PartPath) -> str:
    part: Any = model
    for name in path:
        # Numbers stand for places in a list of modules.
        part = part[name] if isinstance(name, int) else getattr(part, name)
    return type(part).__name__

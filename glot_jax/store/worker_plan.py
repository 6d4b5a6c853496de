"""What a store that workers write will consist of: worker 0 says it, and `finish` reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glot_jax.config.json import from_json, to_json
from glot_jax.errors import UsageError
from glot_jax.files import read_json
from glot_jax.store.identity import canonical_sha256
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import lock_folder

PLAN = "plan.json"
_REPAIR = "Run worker 0 again."


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """One split as worker 0 saw it: it cuts every shard, and writes the row arrays."""

    rows: int
    texts: tuple[tuple[str, ...], ...]
    """Per shard the sha256 of its `TEXT_FILES`: the shards of the other workers must have these."""
    arrays: dict[str, FileRecord]
    duplicates: int | None = None
    """Texts that are stored once with an equal one; None without `--deduplicate`."""


@dataclasses.dataclass(frozen=True)
class WorkerPlan:
    """A whole store as worker 0 saw it."""

    workers: int
    task: dict[str, Any]
    """The TaskSpec as JSON."""
    splits: Mapping[str, SplitPlan]
    probe: dict[str, Any] | None = None
    """What was found out about the backbone; see `Manifest`."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, signed with their own hash."""
        splits = {}
        for name, split in self.splits.items():
            splits[name] = to_json(split)
        values = {
            "workers": self.workers,
            "task": self.task,
            "splits": splits,
            "probe": self.probe,
        }
        # The hash covers everything else: a plan that was cut or edited is refused.
        return {**values, "sha256": canonical_sha256(values)}


def read_plan(store: Path) -> WorkerPlan | None:
    """The plan of an unfinished store; None if worker 0 has not come to its end.

    Raises:
        UsageError: the plan is damaged.
    """
    path = lock_folder(store) / PLAN
    # Written at the very end of worker 0, when all of its shards are there.
    if not path.is_file():
        return None
    try:
        values = read_json(path, _REPAIR)
    except UsageError:
        # Removed since: another process has finished the store.
        if not path.is_file():
            return None
        raise
    return plan_of(values, path)


def plan_of(values: object, path: object) -> WorkerPlan:
    """A plan by its JSON values; `path` says where they are from.

    Raises:
        UsageError: they are damaged.
    """
    signature = None
    if isinstance(values, dict):
        # Taken out: it is the hash of all the rest.
        signature = values.pop("sha256", None)
    # It has no other hash than its own, and a store is built on it.
    if not isinstance(values, dict) or canonical_sha256(values) != signature:
        raise UsageError(
            rule="the plan of a store must have the sha256 it was written with",
            got=path,
            fix=_REPAIR,
        )
    # One by one: `from_json` of the whole does not look inside a dict.
    splits = {}
    for name, split in values["splits"].items():
        splits[name] = from_json(SplitPlan, split)
    return WorkerPlan(
        workers=values["workers"],
        task=values["task"],
        splits=splits,
        probe=values.get("probe"),
    )

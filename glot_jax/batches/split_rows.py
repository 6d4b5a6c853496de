"""Which rows a run trains on, and which it is judged on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.store.reader import HiddenStore
from glot_jax.store.split_reader import SplitReader

_HOLDOUT_SEED = 0x601D  # so that a holdout is not drawn like an epoch's first batches


class SplitRows(NamedTuple):
    """Rows of a stored split."""

    split: str
    rows: np.ndarray
    """[n] int64 indices into the stored split."""


class Units(Protocol):
    """What a holdout is made of: rows that stand on one side together."""

    unit: str
    """Plural noun of errors."""

    def units(self, split: SplitReader) -> np.ndarray:
        """[rows] int, 0 .. n - 1: equal for rows that must stand on one side."""
        ...

    def smallest_holdout(self, split: SplitReader) -> int:
        """Units that a holdout needs to be judged at all."""
        ...


@dataclasses.dataclass(frozen=True)
class Splits:
    """Rows of each reported split, "train" first, and the split that selects the best epoch."""

    rows: dict[str, SplitRows]
    selected_on: str

    @classmethod
    def divide(
        cls,
        store: HiddenStore,
        config: TrainConfig,
        units: Units,
    ) -> Splits:
        """The splits of a store, with a holdout where `--select-on` asks for one.

        A holdout is a seeded tenth of train. It is reported as "validation" where the store has no
        such split.

        Raises:
            UsageError: no train split, no validation split to select on, or too few rows.
        """
        if "train" not in store:
            raise UsageError(
                rule="training needs a train split",
                got=f"{store.path}: {', '.join(store)}",
                fix="Extract one.",
            )
        # In the order of the store, which is the order in which splits are reported.
        others = [name for name in store if name != "train"]
        rows = _all_rows(store, ("train", *others))
        validations = [name for name in others if name.startswith("validation")]
        # MNLI has two validation splits, "validation_matched" and "validation_mismatched".
        select_on = config.objective.select_on
        if select_on == "auto":
            select_on = "validation" if validations else "holdout"
        if select_on == "validation" and not validations:
            raise UsageError(
                rule="--select-on validation needs a validation split",
                got=", ".join(store),
                fix="Use --select-on holdout.",
            )
        # Something must be reported in any case, even where the last epoch is taken unselected.
        if select_on == "holdout" or not validations:
            held_out = _held_out(store["train"], config.seed, units)
            name = "holdout" if validations else "validation"
            train = SplitRows("train", np.flatnonzero(~held_out))
            holdout = SplitRows("train", np.flatnonzero(held_out))
            # A holdout is reported first, right after train.
            del rows["train"]
            rows = {"train": train, name: holdout, **rows}
        # The first of several: MNLI's matched one.
        if select_on == "validation":
            select_on = validations[0]
        return cls(rows, select_on)

    @classmethod
    def whole(cls, store: HiddenStore) -> Splits:
        """All rows of all splits, for a store without a train split: nothing is selected there."""
        return cls(_all_rows(store, store.splits), "last")

    @property
    def stored(self) -> set[str]:
        """Names of the stored splits that are read."""
        return {split for split, _ in self.rows.values()}

    @property
    def held_out(self) -> int:
        """Rows of the validation split, or as many as are trained on where there is none."""
        split = self.rows.get("validation", self.rows["train"])
        return len(split.rows)


def _all_rows(
    store: HiddenStore,
    names: Iterable[str],
) -> dict[str, SplitRows]:
    rows = {}
    for name in names:
        count = len(store[name])
        rows[name] = SplitRows(name, np.arange(count))
    return rows


def _held_out(
    train: SplitReader,
    seed: int,
    units: Units,
) -> np.ndarray:
    """[rows] bool: which rows of train are set aside."""
    unit = units.units(train)
    count = int(unit.max(initial=-1)) + 1
    generator = np.random.default_rng((seed, _HOLDOUT_SEED))
    order = generator.permutation(count)
    smallest = units.smallest_holdout(train)
    size = max(smallest, count // 10)
    if count <= size:
        raise UsageError(
            rule=f"a holdout needs at least {smallest + 1} training {units.unit}",
            got=count,
            fix="Add rows.",
        )
    # A tenth of the units, however many rows each of them has.
    return np.isin(unit, order[:size])

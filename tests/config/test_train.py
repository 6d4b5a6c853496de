"""What the settings of a training decide: the lists that were kept by hand until version 0.1."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from glot_jax.config.base import IDENTITY, NUMBERS, PROGRAM, VARIANT, is_config, type_hints
from glot_jax.config.json import to_json
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError

NESTED = (GraphConfig, PoolerConfig, ObjectiveConfig, OptimizerConfig)


PLACES = {"store", "out", "store_cache"}


def names_without(settings, part) -> set[str]:
    """Names of the plain fields that do not decide `part`."""
    hints = type_hints(settings)
    plain = {field.name for field in dataclasses.fields(settings)}
    plain = {name for name in plain if not is_config(hints[name])}
    return plain - set(settings.names(part))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (NUMBERS, {*PLACES, "cache", "trust_store", "checkpoint_minutes"}),
        (
            PROGRAM,
            {*PLACES, "seed", "cache", "trust_store", "log_every", "checkpoint_minutes"},
        ),
        (
            VARIANT,
            {
                *PLACES,
                "seed",
                "cache",
                "trust_store",
                "checkpoint_minutes",
                "log_every",
                "eval_batch_size",
                "xla_cpu_options",
            },
        ),
        (IDENTITY, PLACES),
    ],
)
def test_what_a_training_does_not_decide(part, expected):
    assert names_without(TrainConfig, part) == expected
    inner = {name for settings in NESTED for name in names_without(settings, part)}
    # Room for edges: the sums are the same, the compiled program is not. A temperature is fitted
    # when all is trained.
    # Numbers that a program is told: `step_functions.Numbers`.
    told = {"lr", "weight_decay", "tau", "dropout"}
    by_part = {NUMBERS: {"edge_budget"}, PROGRAM: {"calibrate", *told}, VARIANT: {"calibrate"}}
    assert inner == by_part.get(part, set())


def test_what_decides_a_sweep():
    assert set(SweepConfig.names(NUMBERS)) == {"seed", "seeds", "sampler", "prune"}


def test_what_only_one_kind_of_task_reads():
    embedding = ("embedding_head", "embedding_vectors", "loss_temperature", "hard_negatives")
    assert ObjectiveConfig.names_only_for("embedding") == embedding
    assert ObjectiveConfig.names_only_for("pair") == ("pair_features",)
    assert ObjectiveConfig.names_for_other_tasks("single") == ("pair_features", *embedding)
    assert ObjectiveConfig.names_for_other_tasks("pair") == embedding


CONFIG = TrainConfig(store=Path("store"), out=Path("out"))


def other_value(value):
    """Another value of the same type that every field accepts."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Path):
        return value / "other"
    if isinstance(value, (int, float)):
        return value + 1
    raise AssertionError(value)


@pytest.mark.parametrize("name", ["store", "seed", "log_every", "trust_store", "epochs"])
@pytest.mark.parametrize("part", [NUMBERS, PROGRAM, VARIANT])
def test_a_part_changes_exactly_with_the_fields_that_decide_it(name, part):
    changed = dataclasses.replace(CONFIG, **{name: other_value(getattr(CONFIG, name))})
    differs = changed.part(part) != CONFIG.part(part)
    assert differs == (name in TrainConfig.names(part))


def test_every_leaf_has_a_name_of_its_own():
    """The command line spells fields without the group that they are in."""
    names = [name for settings in (TrainConfig, *NESTED) for name in settings.names(IDENTITY)]
    # Each of the options in it is a flag, it is none.
    names = [name for name in names if name != "own"]
    assert len(set(names)) == len(names)


def test_a_part_of_the_saved_config_is_that_of_the_settings():
    others = names_without(TrainConfig, NUMBERS)
    # Left out where it has its default: what knows no URL keeps its bytes.
    assert set(to_json(CONFIG)) == (set(CONFIG.part(NUMBERS)) | others) - {"store_cache"}


@pytest.mark.parametrize("units", [("warmup_steps", "warmup_epochs"), ("warmup_fraction",) * 2])
def test_a_warm_up_has_one_unit(units):
    values: dict[str, Any] = dict.fromkeys(units, 1)
    if len(values) == 1:
        assert OptimizerConfig(**values).warmup_fraction == 1
        return
    with pytest.raises(UsageError, match="must be given in one unit; got --warmup-steps, --warm"):
        OptimizerConfig(**values)

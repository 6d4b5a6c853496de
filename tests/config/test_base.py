"""The base of all settings: checked fields, and what each of them decides."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from glot_jax.config.base import (
    ALL,
    NOTHING,
    NUMBERS,
    PROGRAM,
    Config,
    about,
    decides,
    option,
    part_of,
    spelled,
)
from glot_jax.config.checks import distinct, each, filled, positive, whole
from glot_jax.config.experiments import ReportConfig, ReproduceConfig, StressConfig
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.runs import (
    BackboneChoice,
    DescribeConfig,
    EncodeConfig,
    EvaluateConfig,
    ExportConfig,
    ImportTorchConfig,
)
from glot_jax.config.store import StoreConfig
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Inner(Config):
    width: int = option(8, whole(1), decides=PROGRAM)
    tags: tuple[str, ...] = option(("a",), filled, decides=NOTHING)


@dataclasses.dataclass(frozen=True)
class Outer(Config):
    path: Path = dataclasses.field(metadata=about(decides=NOTHING))
    rate: float | None = option(None, positive, decides=ALL, example=0.1)
    mode: Literal["fast", "exact"] = option("fast", decides=NUMBERS)
    inner: Inner = dataclasses.field(default_factory=Inner)

    def require_consistent(self) -> None:
        if self.mode == "exact" and self.rate is None:
            raise UsageError(rule="--mode exact needs --rate", got="none", fix="Give --rate 0.1.")


def test_a_broken_rule_names_the_flag_the_value_and_one_that_would_do():
    with pytest.raises(UsageError) as caught:
        Outer(Path("x"), rate=-1.0)
    error = "--rate must be a positive number; got -1.0. Give for example --rate 0.1."
    assert str(caught.value) == error


def test_a_literal_holds_one_of_its_values():
    with pytest.raises(UsageError, match="--mode must be one of fast, exact; got 'slow'"):
        Outer(Path("x"), mode="slow")  # pyright: ignore[reportArgumentType]


def test_none_is_not_checked_where_a_field_allows_it():
    assert Outer(Path("x"), rate=None).rate is None


def test_an_empty_tuple_is_received_as_none():
    with pytest.raises(UsageError, match="--tags must have at least one value; got none. .*a"):
        Inner(tags=())


def test_what_holds_between_fields_is_checked_after_the_fields():
    with pytest.raises(UsageError, match="--mode exact needs --rate"):
        Outer(Path("x"), mode="exact")
    with pytest.raises(UsageError, match="--rate must be"):
        Outer(Path("x"), mode="exact", rate=-1.0)


def test_part_keeps_the_fields_that_decide_something_and_their_nesting():
    config = Outer(Path("x"), rate=0.5)
    assert config.part(PROGRAM) == {"rate": 0.5, "inner": {"width": 8}}
    assert config.part(NUMBERS) == {"rate": 0.5, "mode": "fast", "inner": {}}
    assert config.part(NOTHING) == {"inner": {}}
    assert Outer.names(NUMBERS | PROGRAM) == ("rate", "mode")


def test_part_of_keeps_what_another_version_wrote():
    saved = {"path": "x", "rate": 0.5, "momentum": 0.9, "inner": {"width": 8, "depth": 2}}
    assert part_of(Outer, saved, PROGRAM) == {
        "rate": 0.5,
        "momentum": 0.9,
        "inner": {"width": 8, "depth": 2},
    }


def test_a_field_that_does_not_say_what_it_decides_cannot_be_asked():
    @dataclasses.dataclass(frozen=True)
    class Silent(Config):
        width: int = option(8)

    with pytest.raises(KeyError, match="width does not say what it decides"):
        Silent().part(NUMBERS)


@pytest.mark.parametrize(
    ("value", "words"), [((0.1, 0.01), "0.1 0.01"), ("gat", "gat"), (None, "None"), ((), "")]
)
def test_values_are_spelled_as_they_are_typed(value, words):
    assert spelled(value) == words


SETTINGS = [
    ExtractConfig,
    TrainConfig,
    GraphConfig,
    PoolerConfig,
    ObjectiveConfig,
    OptimizerConfig,
    EvaluateConfig,
    DescribeConfig,
    BackboneChoice,
    EncodeConfig,
    ExportConfig,
    ImportTorchConfig,
    StoreConfig,
    ProfileConfig,
    StressConfig,
    SweepConfig,
    ReproduceConfig,
    ReportConfig,
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_checked_field_has_a_valid_example(settings):
    for field in dataclasses.fields(settings):
        example = field.metadata.get("example")
        if example is None and field.default is not dataclasses.MISSING:
            example = field.default
        for check in field.metadata.get("checks", ()):
            assert example is not None, f"{field.name} has no example"
            values = example if isinstance(example, tuple) else (example,)
            takes_tuple = check in (filled, distinct) or "each" in check.__qualname__
            assert check(values if takes_tuple else example) is None


@pytest.mark.parametrize(
    ("settings", "required", "wrong"),
    [
        (ExportConfig, (Path("r"), "o"), {"to": "tflite"}),
        (SweepConfig, (Path("s"), Path("o")), {"sampler": "nonsense"}),
        (ReproduceConfig, (("table4",),), {"select_on": "nonsense"}),
        (EvaluateConfig, (Path("r"),), {"checkpoint": "x"}),
        (DescribeConfig, (Path("r"),), {"checkpoint": "x"}),
        (StoreConfig, ("delete", Path("s")), {}),
        (ProfileConfig, (), {"states_dtype": "int4"}),
        (ExtractConfig, ("b", "cola", Path("o")), {"kind": "both"}),
        (TrainConfig, (Path("s"), Path("o")), {"cache": "cloud"}),
    ],
)
def test_python_is_checked_as_the_command_line_is(settings, required, wrong):
    with pytest.raises(UsageError, match="must be one of"):
        settings(*required, **wrong)


@pytest.mark.parametrize("settings", [TrainConfig, GraphConfig, PoolerConfig, SweepConfig])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, 0.5, "8"])
def test_whole_numbers_are_whole(settings, value):
    required = [Path("x") for _ in dataclasses.fields(settings) if _.name in ("store", "out")]
    names = {"GraphConfig": "k", "PoolerConfig": "hidden_dim", "SweepConfig": "workers"}
    name = names.get(settings.__name__, "batch_size")
    with pytest.raises(UsageError, match="must be a whole number; got"):
        settings(*required, **{name: value})


TRAINING = [TrainConfig, GraphConfig, PoolerConfig, ObjectiveConfig, OptimizerConfig, SweepConfig]


@pytest.mark.parametrize("settings", TRAINING)
def test_every_field_of_a_training_says_what_it_decides(settings):
    for field in dataclasses.fields(settings):
        if not (isinstance(field.default_factory, type)):
            assert decides(field) is not None


def test_each_passes_a_broken_rule_on():
    assert each(whole(10))((2000, 5)) == "must each be at least 10"

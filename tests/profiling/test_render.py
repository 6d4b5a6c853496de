"""Profiles as JSON and as tables of at most 100 columns."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from glot_jax.profiling.ceilings import FULL, Ceilings
from glot_jax.profiling.head import Profile
from glot_jax.profiling.render import (
    WIDTH,
    below_floor_line,
    print_profiles,
    profile_tables,
    to_json,
)

CEILINGS = Ceilings({"float32": 1e9, FULL: 1e9, "bfloat16": 2e9}, 1e9)
PROFILE = Profile(
    device="cpu",
    pooler="glot",
    backend="dense",
    dtype="float32",
    states_dtype="float32",
    dim=768,
    length=128,
    texts=32,
    tokens=2048,
    density=0.25,
    forward_ms=10.0,
    forward_spread_ms=(9.0, 11.0),
    forward_floor_ms=4.0,
    forward_peak_bytes=10**6,
    step_ms=30.0,
    step_spread_ms=(29.0, 31.0),
    floor_ms=12.0,
    peak_bytes=2 * 10**6,
    compile_seconds=1.5,
    flops=3e9,
    bytes=4e6,
    fusions=7,
    scatters=0,
    compilations=2,
)
WIDE = dataclasses.replace(
    PROFILE,
    pooler="adapool-attention",
    backend="blockwise",
    dtype="bfloat16",
    length=32768,
    dim=4096,
    step_ms=123456.78,
    step_spread_ms=(123456.78, 234567.89),
    flops=None,
)


def test_every_value_of_a_profile_is_in_its_column():
    (table,) = profile_tables([PROFILE, WIDE])
    assert table.titles == ("pooler", "glot", "adapool-attention")
    values = {row[0].text: row[1].text for row in table.rows}
    assert values == {
        "backend": "dense",
        "dtype": "float32",
        "states": "float32",
        "texts x length x dim": "32 x 128 x 768",
        "real tokens": "50%",
        "density": "25.0%",
        "forward, ms": "10.00",
        "step, ms": "30.00",
        "25–75 %, ms": "29.00–31.00",
        "floor, ms": "12.00",
        "time / floor": "2.50",
        "peak memory": "2 MB",
        "compilation, s": "1.5",
        "fusions": "7",
        "scatters": "0",
        "compilations": "2",
    }


def test_a_forward_pass_has_its_own_spread_and_floor():
    alone = dataclasses.replace(PROFILE, step_ms=None, step_spread_ms=None, floor_ms=None)
    (table,) = profile_tables([alone])
    values = {row[0].text: row[1].text for row in table.rows}
    # Empty in all profiles of the table: left out.
    assert "step, ms" not in values
    assert values["25–75 %, ms"] == "9.00–11.00"
    assert values["floor, ms"] == "4.00"
    assert values["time / floor"] == "2.50"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_tables_fit_their_width_and_no_profile_is_lost(count):
    profiles = [dataclasses.replace(WIDE, fusions=number) for number in range(count)]
    tables = profile_tables(profiles)
    assert all(table.width <= WIDTH for table in tables)
    shown = []
    for table in tables:
        (row,) = (row for row in table.rows if row[0].text == "fusions")
        shown += [cell.text for cell in row[1:]]
    assert shown == [str(number) for number in range(count)]


def test_a_narrow_console_has_a_profile_in_each_table():
    assert len(profile_tables([PROFILE, PROFILE], 20)) == 2


def test_what_is_printed_fits_100_columns():
    stream = io.StringIO()
    print_profiles(
        [PROFILE, WIDE, PROFILE, WIDE], Console(file=stream, width=WIDTH), ceilings=CEILINGS
    )
    printed = stream.getvalue()
    assert max(map(len, printed.splitlines())) <= WIDTH
    assert "A training step of the pooling head" in printed
    assert "123456.78–234567.89" in printed
    assert "XLA counts 3.00 GFLOP and 4 MB accessed in a step" in printed


def test_what_reached_a_ceiling_is_said():
    ceilings = Ceilings(
        {"float32": 145e9},
        9e9,
        {1 << 20: 60e9, 1 << 28: 9e9},
        {"float32": "2048 x 2048 x 2048, NumPy", "copy": "256 MiB, XLA"},
    )
    stream = io.StringIO()
    print_profiles([PROFILE], Console(file=stream, width=WIDTH), ceilings=ceilings)
    printed = stream.getvalue()
    assert "matmul 145 GFLOP/s in float32 (2048 x 2048 x 2048, NumPy)" in printed
    assert "copy 60.0, 9.0 GB/s of 1, 256 MiB (256 MiB, XLA)" in printed
    assert to_json([PROFILE], ceilings)["ceilings"]["reached_by"]["copy"] == "256 MiB, XLA"


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"step_ms": 11.9}, "0.99"),
        ({"forward_ms": 2.0}, "0.50"),
        ({"step_ms": None, "floor_ms": None, "forward_ms": 3.0}, "0.75"),
    ],
)
def test_a_time_below_its_floor_is_an_error_of_the_measure_and_is_said(changes, share):
    profile = dataclasses.replace(PROFILE, **changes)
    line = below_floor_line(profile)
    assert line is not None
    assert f"{share} of its floor is an error of the measure" in line
    assert to_json([profile])["below_floor"]
    stream = io.StringIO()
    print_profiles([PROFILE, profile], Console(file=stream, width=WIDTH), ceilings=CEILINGS)
    assert stream.getvalue().count("error of the measure") == 1


def test_a_time_at_its_floor_is_none():
    assert below_floor_line(dataclasses.replace(PROFILE, step_ms=12.0, forward_ms=4.0)) is None
    assert not to_json([PROFILE])["below_floor"]


def test_several_profiles_are_one_object():
    assert to_json([PROFILE])["over_floor"] == 2.5
    assert "profiles" not in to_json([PROFILE])
    values = to_json([PROFILE, WIDE])
    assert values["pooler"] == "glot"
    assert [profile["pooler"] for profile in values["profiles"]] == ["glot", "adapool-attention"]

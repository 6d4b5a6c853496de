"""`glot profile` from the command line: variants, shapes, what is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from support.synthetic_stores import make_store

from glot_jax.cli import main
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.profiling.profiles import run_profile, vary


def test_the_command_prints_one_object(capsys, tmp_path):
    shape = [
        "--dim",
        "16",
        "--hidden-dim",
        "8",
        "--length",
        "8",
        "--tokens-per-text",
        "5",
        "--batch-size",
        "2",
    ]
    arguments = [*shape, "--repeats", "2", "--json", "--compare", "sparse", "bfloat16", "adapool"]
    with pytest.raises(SystemExit, match="0"):
        main(["profile", *arguments, "--trace", str(tmp_path / "trace")])
    values = json.loads(capsys.readouterr().out)
    assert {
        "device",
        "backend",
        "step_ms",
        "forward_ms",
        "compile_seconds",
        "flops",
        "bytes",
        "peak_bytes",
        "floor_ms",
        "scatters",
        "compilations",
    } <= set(values)
    assert [
        (profile["backend"], profile["dtype"], profile["pooler"]) for profile in values["profiles"]
    ] == [
        ("dense", "float32", "glot"),
        ("sparse", "float32", "glot"),
        ("dense", "bfloat16", "glot"),
        ("dense", "float32", "adapool"),
    ]
    assert values["tokens"] < 16
    assert [profile["states_dtype"] for profile in values["profiles"]] == [
        "float32",
        "float32",
        "bfloat16",
        "float32",
    ]
    assert values["profiles"][3]["density"] is None
    assert list((tmp_path / "trace").rglob("perfetto_trace.json.gz"))


def test_a_store_is_profiled_by_bucket(tmp_path, capsys):
    make_store(tmp_path / "store", rows={"train": 64, "validation": 8})
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                "profile",
                "--store",
                str(tmp_path / "store"),
                "--hidden-dim",
                "8",
                "--batch-size",
                "4",
                "--repeats",
                "1",
                "--buckets",
                "2",
                "--forward-only",
            ]
        )
    printed = capsys.readouterr().out
    assert "4 x" in printed
    assert printed.count("glot") >= 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"compare": ("fast",)}, "--compare must name"),
        ({"tokens_per_text": 200.0}, "--tokens-per-text"),
        ({"states_dtype": "int8"}, "--states-dtype"),
        ({"repeats": 0}, "--repeats"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_input(options, match):
    with pytest.raises(UsageError, match=match):
        run_profile(dataclasses.replace(ProfileConfig(length=8, dim=8), **options))


def test_misspelt_names_are_found_although_the_pooler_reads_none_of_them():
    graph = GraphConfig(graph="treshold")
    config = ProfileConfig(length=8, dim=8, graph=graph, pooler=PoolerConfig(pooler="mean"))
    with pytest.raises(UsageError, match="unknown graph rule"):
        run_profile(config)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("sparse", "backend", "sparse"),
        ("bfloat16", "dtype", "bfloat16"),
        ("mean", "pooler", "mean"),
    ],
)
def test_a_variant_differs_in_the_one_thing_that_names_it(name, field, value):
    config = ProfileConfig(length=8, dim=8)
    graph, pooler = vary(config, name)
    expected = {**dataclasses.asdict(config.graph), **dataclasses.asdict(config.pooler)}
    found = {**dataclasses.asdict(graph), **dataclasses.asdict(pooler)}
    assert found == {**expected, field: value}

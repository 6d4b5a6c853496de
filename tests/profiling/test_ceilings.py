"""A ceiling is the best of many measurements, and each dtype is measured once."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from glot_jax.profiling import ceilings as module
from glot_jax.profiling.ceilings import (
    FULL,
    Candidate,
    Ceilings,
    Reached,
    best_of,
    ceilings_of,
    fastest,
    measure_ceilings,
)

on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU rounds float32 products")


def candidate(name: str, amount: float) -> Candidate:
    return Candidate(name, amount, lambda: lambda: None)


@pytest.mark.parametrize("seed", range(5))
def test_the_ceiling_is_the_best_rate_of_all(seed):
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(1, 2, 8)
    seconds = rng.uniform(0.1, 1, 8)
    candidates = [candidate(str(number), amount) for number, amount in enumerate(amounts)]
    reached = fastest(candidates, lambda it: float(seconds[int(it.name)]))
    rates = amounts / seconds
    assert reached == Reached(rates.max(), str(rates.argmax()))


def test_what_would_take_too_long_is_not_begun():
    begun = []

    def seconds_of(it: Candidate) -> float:
        begun.append(it.name)
        return it.amount / 10

    candidates = [candidate("short", 1), candidate("long", 21), candidate("longest allowed", 20)]
    assert fastest(candidates, seconds_of, 2.0).name == "short"
    assert begun == ["short", "longest allowed"]


def test_a_set_of_dtypes_is_measured_once(monkeypatch):
    ceilings = measure_ceilings(("float32", FULL))
    assert measure_ceilings(("float32", FULL)) is ceilings
    assert ceilings.bandwidth > 0
    assert all(rate > 0 for rate in ceilings.flops.values())
    # Another set measures nothing again that the two have in common.
    monkeypatch.setattr(module, "_fastest_run", None)
    assert measure_ceilings(("float32",)).flops["float32"] == ceilings.flops["float32"]


def test_every_ceiling_says_what_reached_it():
    ceilings = measure_ceilings(("float32", FULL))
    assert set(ceilings.reached_by) == {"float32", FULL, "copy"}
    assert ceilings.reached_by["float32"].startswith("128 x 128 x 128, ")
    assert list(ceilings.copies) == [1 << 12, 1 << 16]
    assert ceilings.bandwidth == ceilings.copies[1 << 16]


@on_cpu
def test_every_way_to_multiply_is_tried(monkeypatch):
    tried = []

    def seconds_of(it: Candidate) -> float:
        # What is timed does multiply.
        result = np.asarray(it.prepare()(), np.float32)
        assert result.shape == (128, 128)
        tried.append(it.name.partition(", ")[2])
        return 1.0

    monkeypatch.setattr(module, "_fastest_run", seconds_of)
    monkeypatch.setattr(module, "_COPIES", ())
    module._fastest_product("float32")
    assert tried == [
        "XLA's own choice",
        "Eigen",
        "XLA's own choice on one thread",
        "Eigen on one thread",
        "NumPy",
    ]


def test_every_copy_is_a_copy():
    for it in module._copies(1 << 12):
        run = it.prepare()
        run()
        assert it.amount == 2 << 12


@on_cpu
def test_a_cpu_has_one_rate_of_float32():
    ceilings = measure_ceilings(("float32", FULL))
    assert ceilings.flops["float32"] == ceilings.flops[FULL]


@on_cpu
def test_fewer_bits_are_never_slower_on_a_cpu(monkeypatch):
    # They can always be multiplied as float32.
    monkeypatch.setattr(module, "_fastest_run", lambda it: 0.1 if "NumPy" in it.name else 0.9)
    ceilings = measure_ceilings(("bfloat16", "float32"))
    assert ceilings.flops["bfloat16"] == ceilings.flops["float32"]
    assert ceilings.reached_by["bfloat16"] == "128 x 128 x 128, NumPy, in float32"


def test_the_best_of_several_measurements_is_the_best_of_every_rate():
    first = Ceilings(
        flops={"float32": 1.0, FULL: 4.0},
        bandwidth=6.0,
        copies={1: 9.0, 2: 6.0},
        reached_by={"float32": "a", FULL: "b", "copy": "c"},
    )
    second = Ceilings(
        flops={"float32": 2.0, FULL: 3.0},
        bandwidth=7.0,
        copies={1: 8.0, 2: 7.0},
        reached_by={"float32": "d", FULL: "e", "copy": "f"},
    )
    best = best_of([first, second])
    assert best.flops == {"float32": 2.0, FULL: 4.0}
    assert best.copies == {1: 9.0, 2: 7.0}
    assert best.bandwidth == 7.0
    assert best.reached_by == {"float32": "d", FULL: "b", "copy": "f"}
    assert best_of([first]) == first


@pytest.mark.parametrize(
    ("moved", "rate"),
    [(1, 90.0), (20, 90.0), (199, 90.0), (200, 30.0), (1999, 30.0), (2000, 5.0), (1e12, 5.0)],
)
def test_what_fits_into_a_cache_is_not_held_to_the_memory(moved, rate):
    # A copy of n bytes moves 2 n.
    ceilings = Ceilings({}, 5.0, {10: 90.0, 100: 30.0, 1000: 5.0})
    assert ceilings.bandwidth_for(moved) == rate
    assert Ceilings({}, 5.0).bandwidth_for(moved) == 5.0


def test_cosines_of_float32_are_never_rounded():
    assert ceilings_of("float32", "bfloat16") == ("bfloat16", "float32", FULL)
    assert ceilings_of("float16", "float32") == ("float16", "float32")

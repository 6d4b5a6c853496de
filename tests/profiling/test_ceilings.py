"""What the machine can do is measured once, and for each dtype that a floor needs."""

from __future__ import annotations

import jax
import pytest

from glot_jax.profiling.ceilings import FULL, ceilings_of, measure_ceilings


def test_a_set_of_dtypes_is_measured_once():
    ceilings = measure_ceilings(("float32", FULL), 1)
    assert measure_ceilings(("float32", FULL), 1) is ceilings
    assert ceilings.bandwidth > 0
    assert all(rate > 0 for rate in ceilings.flops.values())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU rounds float32 products")
def test_a_cpu_has_one_rate_of_float32():
    ceilings = measure_ceilings(("float32", FULL), 1)
    assert ceilings.flops["float32"] == ceilings.flops[FULL]


def test_cosines_of_float32_are_never_rounded():
    assert ceilings_of("float32", "bfloat16") == ("bfloat16", "float32", FULL)
    assert ceilings_of("float16", "float32") == ("float16", "float32")

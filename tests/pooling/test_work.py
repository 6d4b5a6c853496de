"""Passes of a product: forward, towards the kernel, towards an input that learns."""

from __future__ import annotations

import pytest

from glot_jax.pooling.work import StepWork


@pytest.mark.parametrize(("train", "frozen", "passes"), [(0, 0, 1), (1, 1, 2), (1, 0, 3)])
def test_a_product_costs_what_its_passes_cost(train, frozen, passes):
    work = StepWork(2.0, 10.0, 60.0, dtype="bfloat16", train=bool(train))
    work.linear(3, 5, frozen=bool(frozen))
    work.linear_per_text(3, 5, frozen=bool(frozen))
    assert work.flops == {"bfloat16": passes * 2 * 10 * 15, "float32": passes * 2 * 2 * 15}


def test_attention_weights_lead_back_through_a_product_of_their_own():
    for train, weighted, passes in ((False, True, 1), (True, False, 2), (True, True, 3)):
        work = StepWork(2.0, 10.0, 60.0, dtype="float32", train=train)
        work.mix(4, weighted=weighted)
        assert work.flops == {"float32": passes * 2 * 60 * 4}

"""The miniature is the same computation with both sets of options, and differs by them alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from glot_jax.xla import probe
from glot_jax.xla.cpu_options import EIGEN, XLA, compiled_with
from glot_jax.xla.probe import ProbeShape, measure_probe

SHAPE = ProbeShape(texts=2, length=8, dim=16, hidden=4, linked=True)

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="measured on CPUs alone")


@pytest.mark.parametrize("linked", [True, False])
def test_both_programs_are_timed(linked, monkeypatch):
    monkeypatch.setattr(probe, "_SECONDS", 0)
    seconds = measure_probe(ProbeShape(2, 8, 16, 4, linked))
    assert len(seconds.eigen) == len(seconds.xla) >= 5
    assert min(*seconds.eigen, *seconds.xla) > 0


@pytest.mark.parametrize("linked", [True, False])
def test_the_options_change_who_multiplies_and_not_what_comes_out(linked, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    lowered, arguments = probe._lowered(ProbeShape(4, 32, 64, 32, linked))
    programs = [compiled_with(lowered, options) for options in (EIGEN, XLA)]
    texts = [str(program.as_text()) for program in programs]
    assert texts[0] != texts[1]
    ours, theirs = (jax.tree.leaves(program(*arguments)) for program in programs)
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)
        assert np.abs(left).max() > 0


def test_a_miniature_without_edges_multiplies_no_pairs():
    linked, _ = probe._lowered(SHAPE)
    alone, _ = probe._lowered(ProbeShape(2, 8, 16, 4, linked=False))
    assert "2x8x8x" in linked.as_text()
    assert "2x8x8x" not in alone.as_text()


def test_sizes_have_names_of_their_own():
    shapes = [
        SHAPE,
        ProbeShape(2, 8, 16, 4, linked=False),
        ProbeShape(8, 2, 16, 4, linked=True),
        ProbeShape(2, 8, 4, 16, linked=True),
    ]
    assert len({shape.name for shape in shapes}) == len(shapes)

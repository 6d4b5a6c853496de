"""Steps are compiled with Eigen's matmul on a CPU.

But for very short and very long texts, and unless the user or jaxlib has it otherwise.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.typed import present

from glot_jax.xla.cpu_options import compiled


class Refuses:
    """Of a jaxlib that does not know the option."""

    def __init__(self, message: str):
        self.message = message
        self.calls: list[dict[str, Any] | None] = []

    def compile(self, options: dict[str, Any] | None = None) -> str:
        self.calls.append(options)
        if options:
            raise jax.errors.JaxRuntimeError(self.message)
        return "compiled"


def compiled_by(lowered: Refuses, texts: tuple[int, int] | None = None) -> object:
    return compiled(cast(jax.stages.Lowered, lowered), texts)


def test_products_are_eigens_and_the_numbers_are_the_same(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    values = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    lowered = jax.jit(jnp.matmul).lower(*values)
    ours, theirs = compiled(lowered), lowered.compile()
    assert "ynn" not in present(ours.as_text())
    assert "ynn" in present(theirs.as_text())  # else this jaxlib needs no help any more
    np.testing.assert_allclose(ours(*values), theirs(*values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ((1, 8192), True),
        ((1, 8193), False),
        ((4, 4096), True),
        ((5, 4096), False),
        ((32, 32), False),
        ((33, 32), True),
        (None, True),
    ],
)
def test_short_texts_and_batches_too_large_for_the_dense_backend_keep_jaxs_own_matmul(
    texts, options, monkeypatch
):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    lowered = Refuses("No such compile option")
    assert compiled_by(lowered, texts) == "compiled"
    assert bool(lowered.calls[0]) is options
    assert lowered.calls[-1] is None


def test_a_flag_of_the_users_wins(monkeypatch):
    monkeypatch.setenv(
        "XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT"
    )
    lowered = Refuses("")
    assert compiled_by(lowered) == "compiled"
    assert lowered.calls == [None]


def test_another_jaxlib_compiles_as_it_can(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    lowered = Refuses(
        "INVALID_ARGUMENT: No such compile option: 'xla_cpu_experimental_ynn_fusion_type'"
    )
    assert compiled_by(lowered) == "compiled"
    assert len(lowered.calls) == 2
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        compiled_by(Refuses("out of memory"))

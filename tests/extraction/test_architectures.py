"""Every architecture gives each text its own states, or is refused by name.

They are those of the layers that its blocks say.

A dozen run in `make test`, all of `ARCHITECTURES` in `make test-all`.
"""

from __future__ import annotations

import pytest
import transformers
from support.architectures import ARCHITECTURES, CHOSEN, make_architecture, measure

from glot_jax.errors import UsageError

EXACT = 5e-6
"""Largest change of a float32 state, as a share of its norm, that is rounding: what leaks is at
least 1e-3.
"""
NAMES = [
    name if name in CHOSEN else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES
]


@pytest.fixture(autouse=True)
def _quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def test_the_table_is_long_enough_and_few_are_refused():
    assert len(ARCHITECTURES) >= 40
    assert set(CHOSEN) <= set(ARCHITECTURES)
    assert set(ARCHITECTURES) <= set(transformers.CONFIG_MAPPING)
    assert sum(row.refused is not None for row in ARCHITECTURES.values()) <= 4


@pytest.mark.parametrize("name", NAMES)
def test_states_are_a_texts_own_in_any_company(name, tmp_path):
    architecture = ARCHITECTURES[name]
    folder = make_architecture(name, tmp_path / name)
    if architecture.refused:
        with pytest.raises(UsageError, match=architecture.refused):
            measure(name, folder)
        return
    found = measure(name, folder)
    assert (found["passes"], found["kind"]) == (architecture.passes, architecture.kind)
    assert found["layers"] == (4 if architecture.inner else 1)
    assert found["company"] <= EXACT
    assert found["layer_error"] <= EXACT
    if architecture.left:
        left = measure(name, folder, "left")
        assert left["company"] <= EXACT
        assert left["layer_error"] <= EXACT
    else:
        with pytest.raises(UsageError, match="left padding must leave.*change by"):
            measure(name, folder, "left")

"""The backbone beside which heads are timed: its random texts and their states."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_backbones import MAX_POSITIONS

from glot_jax.errors import UsageError
from glot_jax.profiling.frozen_backbone import (
    load_frozen,
    ms_text,
    random_texts,
    states_of,
    timing_text,
)
from glot_jax.profiling.timing import Timing


def test_random_texts_have_no_special_token_and_real_states(backbone):
    frozen = load_frozen(backbone, (8,), 1)
    ids = random_texts(frozen, 3, 8, seed=1)
    assert not np.isin(ids, frozen.tokenizer.all_special_ids).any()
    assert not np.array_equal(ids, random_texts(frozen, 3, 8, seed=2))
    states = states_of(frozen, ids)
    assert states.hidden.shape == (3, 8, frozen.dim)
    assert states.mask.all()
    # Each text's states are its own.
    alone = states_of(frozen, ids[1:2])
    np.testing.assert_allclose(states.hidden[1], alone.hidden[0], atol=1e-5)


def test_a_length_beyond_the_positions_is_refused(backbone):
    with pytest.raises(UsageError) as error:
        load_frozen(backbone, (8, MAX_POSITIONS + 1), 1)
    assert f"at most {MAX_POSITIONS} tokens" in error.value.rule
    assert error.value.got == f"a length of {MAX_POSITIONS + 1}"
    assert error.value.fix == f"Give {MAX_POSITIONS} or less."


def test_times_are_written_with_the_digits_that_mean_something():
    assert [ms_text(value) for value in (0.1234, 12.34, 1234.5)] == ["0.123", "12.3", "1,234.5"]
    assert timing_text(Timing(1.0, (0.5, 20.0))) == "1.000 (0.500–20.0)"

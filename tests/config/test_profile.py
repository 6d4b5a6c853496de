"""Settings of `glot profile`."""

from __future__ import annotations

import pytest

from glot_jax.config.profile import DTYPES, ProfileConfig
from glot_jax.errors import UsageError


def test_tokens_fit_into_the_padded_length():
    assert ProfileConfig(length=64, tokens_per_text=64).tokens_per_text == 64
    with pytest.raises(UsageError, match="--tokens-per-text must be at most --length 64; got 65"):
        ProfileConfig(length=64, tokens_per_text=65)
    with pytest.raises(UsageError, match="--tokens-per-text must be at least 1; got 0.5"):
        ProfileConfig(tokens_per_text=0.5)


def test_states_have_a_dtype_of_a_store_or_that_of_the_head():
    for dtype in ("", *DTYPES):
        assert ProfileConfig(states_dtype=dtype).states_dtype == dtype
    with pytest.raises(
        UsageError, match="--states-dtype must be one of float32, float16, bfloat16"
    ):
        ProfileConfig(states_dtype="int8")

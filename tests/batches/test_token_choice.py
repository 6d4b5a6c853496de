"""The tokens that are left out are those, wherever padding stands; a text never loses all."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice


def choose(choice: TokenChoice, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(choice(jnp.asarray(hidden), jnp.asarray(mask)))


LIMITS = TokenChoice(sink_limits=(100.0,))


def batch(side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States of four texts, their mask, and which tokens are sinks."""
    rng = np.random.default_rng(0)
    lengths = (6, 4, 1, 0)
    hidden = rng.normal(size=(4, 7, 5)).astype(np.float32)
    mask = np.zeros((4, 7), bool)
    sinks = np.zeros((4, 7), bool)
    for row, length in enumerate(lengths):
        first = 0 if side == "right" else 7 - length
        mask[row, first : first + length] = True
        # The first of each, and one more in the first text.
        sinks[row, first : first + min(length, 1)] = True
        if row == 0:
            sinks[row, first + 3] = True
    hidden[sinks] *= 1_000
    # What stands at padding is no sink, however long it is.
    hidden[~mask] = 1e6
    return hidden, mask, sinks


@pytest.mark.parametrize("side", ["left", "right"])
def test_sinks_are_left_out_by_their_norm(side):
    hidden, mask, sinks = batch(side)
    chosen = choose(LIMITS, hidden, mask)
    expected = mask & ~sinks
    expected[2] = mask[2]  # a text of sinks alone keeps them
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_first_are_the_first_real_ones(side, count):
    hidden, mask, _ = batch(side)
    chosen = choose(TokenChoice(skip_first=count), hidden, mask)
    for row in range(4):
        places = np.flatnonzero(mask[row])
        left = places[count:] if len(places) > count else places
        np.testing.assert_array_equal(np.flatnonzero(chosen[row]), left)


def test_of_mixed_layers_one_sink_is_enough():
    hidden, mask, sinks = batch("right")
    plain = np.where(sinks[..., None], hidden / 1_000, hidden)
    layers = np.stack([plain, hidden, plain], axis=2)
    for limits, dropped in (((None, 100.0, None), sinks), ((100.0, None, 100.0), sinks & False)):
        chosen = choose(TokenChoice(sink_limits=limits), layers, mask)
        expected = mask & ~dropped
        expected[2] = mask[2]
        np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("choice", [LIMITS, TokenChoice(2), TokenChoice(1, (100.0,)), EVERY_TOKEN])
def test_numpy_chooses_what_jax_chooses(choice):
    hidden, mask, _ = batch("right")
    chosen = choose(choice, hidden, mask)
    for row in range(4):
        kept = choice.of_text(hidden[row, mask[row]])
        # Of a text that keeps what it has statistics are told nothing.
        expected = hidden[row, chosen[row]] if len(kept) else hidden[row, :0]
        np.testing.assert_array_equal(kept, expected)
    assert len(choice.of_text(hidden[0, mask[0]])) == chosen[0].sum()
    assert len(choice.of_text(hidden[2, mask[2]])) == int(choice.takes_all)


def test_a_choice_survives_json_and_nothing_is_written_of_none():
    assert EVERY_TOKEN.to_json() == {}
    assert TokenChoice.from_json({"dim": 4}) == EVERY_TOKEN
    for choice in (LIMITS, TokenChoice(2), TokenChoice(1, (None, 3.5))):
        assert TokenChoice.from_json(choice.to_json()) == choice
    assert EVERY_TOKEN.takes_all
    assert TokenChoice(sink_limits=(None, None)).takes_all
    assert not LIMITS.takes_all

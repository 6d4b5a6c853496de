"""Padded lengths: few, long enough, and not much longer."""

from __future__ import annotations

from glot_jax.batches.padded_lengths import padded_length, padded_lengths


def test_a_text_fits_and_little_is_padded():
    for tokens in range(1, 2000):
        length = padded_length(tokens)
        assert tokens <= length
        # A step of the ladder: 8 below 64 tokens, 16 below 128, 64 above.
        assert length - tokens < (8 if tokens <= 56 else 16 if tokens <= 112 else 64)


def test_a_padded_length_is_its_own():
    assert all(padded_length(length) == length for length in padded_lengths(2000))


def test_the_lengths_of_a_model_are_those_of_its_texts():
    assert padded_lengths(20) == [8, 16, 24]
    assert padded_lengths(128)[-1] == 128
    assert len(padded_lengths(512)) == 18

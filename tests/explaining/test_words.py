"""Words of a text, and the text without one."""

from __future__ import annotations

import pytest

from glot_jax.explaining.words import without, word_spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  \n", []),
        ("one", ["one"]),
        ("It's  good,\nreally.", ["It's", "good,", "really."]),
        ("我很好 ok", ["我", "很", "好", "ok"]),
        ("naïve 👍🏽 café", ["naïve", "👍🏽", "café"]),
        ("これはtestです", ["こ", "れ", "は", "test", "で", "す"]),
    ],
)
def test_words(text, words):
    assert [text[span.start : span.end] for span in word_spans(text)] == words


@pytest.mark.parametrize(
    ("text", "rests"),
    [
        ("a b c", ["b c", "a c", "a b"]),
        ("one", [""]),
        ("a  b\n", ["b\n", "a"]),
        ("我很好", ["很好", "我好", "我很"]),
    ],
)
def test_a_text_without_a_word(text, rests):
    assert [without(text, span) for span in word_spans(text)] == rests

"""The words of the stress test, and those of a vocabulary."""

import pytest

from glot_jax.texts import stress_words
from glot_jax.texts.stress_words import whole_words


def test_word_lists_are_one_word_each_and_unique():
    words = stress_words.COMMON_WORDS
    assert len(set(words)) == len(words) >= 300
    assert all(word.isalpha() and word.islower() and 3 <= len(word) <= 7 for word in words)


def test_paper_templates_hold_the_same_words_for_both_labels():
    assert all(
        sorted(affirmed.split()) == sorted(negated.split())
        for affirmed, negated in stress_words.TEMPLATES
    )


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (
            ["[CLS]", "cat", "##dog", "an", "Big", "naïve", "cat", "a1b", "bee", "▁owl"],
            ["bee", "cat"],
        ),
        (["Ġcat", "dog", "Ġan", "ĠBig", "Ġbee", "Ġ", "<s>", "Ġcat"], ["bee", "cat"]),
        (["▁cat", "dog", "▁", "▁▁owl", "<s>"], ["cat"]),
        (["dog", "cat", "it"], ["cat", "dog"]),
        (["dog", "Ġ", "▁"], ["dog"]),
    ],
)
def test_whole_words_of_each_kind_of_vocabulary(tokens, words):
    assert whole_words(iter(tokens)) == words

"""What the label of a stress test gives away without any relation between words."""

import pytest
from support.stress_rows import lengths, make

from glot_jax.texts import stress_texts
from glot_jax.texts.stress_controls import controls, order_feature
from glot_jax.texts.stress_words import PAIRS


def test_order_needs_both_words():
    first, second = PAIRS[0]
    assert order_feature(["a", first, "but", "not", second]) == 1
    assert order_feature([second, first]) == 0
    assert order_feature([first, "but", "not"]) is None
    assert order_feature([first, PAIRS[1][0]]) is None


def test_order_counts_a_truncated_text_as_wrong():
    splits = make("controlled")
    cut = {
        **splits,
        "test": [stress_texts.StressRow("the signal is gone", row.label) for row in splits["test"]],
    }
    assert controls("controlled", cut, 0)["order"] == 0.0


@pytest.mark.parametrize("ratio", [0.2, 0.9])
def test_released_leaks_its_label_through_the_word_count(ratio):
    splits = make("released", ratio, rows=(200, 20, 100))
    accuracies = controls("released", splits, 0)
    assert accuracies["length"] == 1.0
    assert accuracies["bag-of-words"] > 0.95
    assert "order" not in accuracies
    short, long = (
        lengths(row for row in splits["train"] if row.label == label) for label in (1, 0)
    )
    assert max(short) + 5 < min(long)
    assert min(short) > int(128 * ratio)

"""The stress test's generators keep their promises about words, balance, twins and leaks."""

from collections import Counter

import pytest
from support.stress_rows import RELATED, ROWS, VOCABULARY, lengths, make

from glot_jax.errors import UsageError
from glot_jax.texts import stress_texts, stress_words
from glot_jax.texts.stress_controls import controls
from glot_jax.texts.stress_texts import PROTOCOLS, generate
from glot_jax.texts.stress_words import PAIRS


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEveryProtocol:
    def test_rows_are_as_many_as_asked_for_and_balanced(self, protocol):
        splits = make(protocol)
        assert list(splits) == ["train", "validation", "test"]
        for rows, count in zip(splits.values(), ROWS, strict=True):
            assert Counter(row.label for row in rows) == {0: count // 2, 1: count // 2}

    def test_seed_decides_every_text(self, protocol):
        assert make(protocol) == make(protocol)
        assert make(protocol)["test"] != make(protocol, seed=43)["test"]

    def test_a_longer_train_split_leaves_the_test_split_alone(self, protocol):
        assert make(protocol)["test"] == make(protocol, rows=(80, 20, 40))["test"]

    def test_splits_share_no_text(self, protocol):
        texts = [row.text for rows in make(protocol).values() for row in rows]
        assert len(set(texts)) == len(texts)

    def test_labels_are_not_in_a_regular_order(self, protocol):
        labels = [row.label for row in make(protocol)["train"]]
        assert labels not in ([0, 1] * 30, [1, 0] * 30, sorted(labels), sorted(labels)[::-1])

    def test_a_single_text_may_have_any_ratio_but_one(self, protocol):
        with pytest.raises(UsageError, match="ratio must be a share"):
            make(protocol, ratio=1.0)

    @pytest.mark.parametrize("rows", [(3, 2, 2), (2, 2, 5), (0, 2, 2)])
    def test_odd_or_empty_splits_are_refused(self, protocol, rows):
        with pytest.raises(UsageError, match="rows of a split must come in pairs"):
            make(protocol, rows=rows)


@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.5, 0.9, 0.96])
class TestTwins:
    def test_only_the_two_related_words_change_places(self, ratio):
        for rows in make("controlled", ratio).values():
            assert lengths(rows) == {100}
            twins = Counter()
            for row in rows:
                words = row.text.split()
                related = [word for word in words if word in RELATED]
                assert tuple(sorted(related)) in {tuple(sorted(pair)) for pair in PAIRS}
                twins[
                    tuple("X" if word in RELATED else word for word in words), frozenset(related)
                ] += 1 + row.label
            assert set(twins.values()) == {3}  # each has one row of label 0 and one of label 1

    def test_length_and_bag_of_words_know_nothing_and_order_everything(self, ratio):
        accuracies = controls("controlled", make("controlled", ratio), 0)
        assert accuracies == {"length": 0.5, "bag-of-words": 0.5, "order": 1.0}


def test_controlled_the_word_before_the_negation_is_affirmed():
    for row in make("controlled")["train"]:
        words = row.text.split()
        first, second = (index for index, word in enumerate(words) if word in RELATED)
        assert tuple(words[first + 1 : second]) in stress_words.NEGATIONS
        assert row.label == any(words[first] == pair[0] for pair in PAIRS)


@pytest.mark.parametrize(("position", "start"), [(0.0, 0), (0.5, 25), (1.0, 50)])
def test_position_is_where_the_signal_stands(position, start):
    rows = make("controlled", 0.5, position=position)["test"]
    for row in rows:
        assert all(
            start <= index < start + 50
            for index, word in enumerate(row.text.split())
            if word in RELATED
        )
    assert (
        len({" ".join(sorted(row.text.split())) for row in rows}) == len(rows) // 2
    )  # twins still
    with pytest.raises(UsageError, match="position must be a share"):
        make("controlled", 0.5, position=1.5)


@pytest.mark.parametrize("distance", [0, 1, 40])
def test_controlled_distance_separates_the_related_words(distance):
    rows = make("controlled", 0.5, distance=distance)["test"]
    for row in rows:
        first, second = (index for index, word in enumerate(row.text.split()) if word in RELATED)
        assert second - first - 1 == distance + 2  # the negation has two words
    assert lengths(rows) == {100}


def test_controlled_distractors_hold_negations_and_no_related_word():
    words = Counter(word for row in make("controlled")["train"] for word in row.text.split())
    assert (
        sum(words[modifier] for modifier in stress_words.MODIFIERS) > 1.5 * ROWS[0]
    )  # the signals have one each
    assert not RELATED & {
        *stress_words.COMMON_WORDS,
        *stress_words.FILLERS,
        *stress_words.MODIFIERS,
    }


def test_controlled_ratio_is_the_share_of_distractors():
    """At 0.96 four words are left, X negation negation Y; at 0.97 the signal does not fit."""
    with pytest.raises(UsageError, match=r"ratio 0\.97 leaves 3 words, 1 too few"):
        make("controlled", 0.97)
    with pytest.raises(UsageError, match=r"ratio 0\.9 leaves 10 words, 1 too few"):
        make("controlled", 0.9, distance=7)


@pytest.mark.parametrize(
    ("length", "ratio", "words"), [(100, 0.29, 29), (128, 0.9, 115), (256, 0.0, 0)]
)
def test_noise_words_are_the_floor_of_the_exact_product(length, ratio, words):
    """0.29 x 100 is 28.999999999999996 in binary."""
    assert stress_texts.StressTextSpec(ratio).noise_words(length) == words


def test_released_negatives_have_a_modifier_ten_words_before_the_noun():
    for row in make("released")["train"]:
        words = row.text.split()
        modifiers = [index for index, word in enumerate(words) if word in stress_words.MODIFIERS]
        assert len(modifiers) == 1 - row.label
        assert all(words[index + 11] in stress_words.NOUNS for index in modifiers)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.9])
def test_paper_texts_have_256_words_and_a_whole_signal(ratio):
    """The signal is whole: a template stands in every text, and its label is the template's."""
    for row in make("paper", ratio)["train"]:
        words = row.text.split()
        assert len(words) == 256
        assert [word for word in words if word not in VOCABULARY] in expected_signals(row.label)


def expected_signals(label):
    return [
        template[1 - label].format(x=x, y=y).split()
        for template in stress_words.TEMPLATES
        for x in stress_words.NOUNS
        for y in stress_words.NOUNS
        if x != y
    ]


def test_paper_refuses_to_cut_its_signal_or_to_go_without_vocabulary():
    with pytest.raises(UsageError, match=r"ratio 0\.99 leaves 3 words"):
        make("paper", 0.99)
    with pytest.raises(UsageError, match="needs the backbone's vocabulary"):
        generate("paper", ratio=0.5, rows=(2, 2, 2), seed=0, vocabulary=None)


def test_unknown_protocols_and_useless_distances_are_refused():
    with pytest.raises(UsageError, match="Known: controlled, paper, released"):
        make("honest")
    with pytest.raises(UsageError, match="0 except for the protocol controlled; got 3"):
        make("released", distance=3)
    with pytest.raises(UsageError, match="distance must be 0 or more"):
        make("controlled", distance=-1)

"""Intervals and paired tests keep the rates they promise, and meet exact tests where they exist."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.typed import present

from glot_jax.objectives.metrics import METRICS
from glot_jax.reporting.statistics import (
    FEWEST_ROWS,
    holm,
    mean_deviation,
    own_rows_difference,
    own_rows_interval,
    p_text,
    paired_difference,
    score_interval,
)

ACCURACY = METRICS["accuracy"]


def answers(rng: np.random.Generator, labels: np.ndarray, skill: float) -> np.ndarray:
    """Predictions that are right with probability `skill`."""
    return np.where(rng.random(len(labels)) < skill, labels, 1 - labels)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        labels = rng.integers(0, 2, 150)
        guesses = [answers(rng, labels, 0.8)]
        interval = score_interval(ACCURACY, guesses, labels, resamples=300, seed=trial)
        low, high = present(interval)
        held += low <= 0.8 <= high
    assert stats.binom.cdf(held, 200, 0.95) > 1e-3
    assert held < 200


def test_equal_poolers_differ_significantly_as_rarely_as_it_says():
    rng = np.random.default_rng(1)
    found = 0
    for trial in range(200):
        labels = rng.integers(0, 2, 60)
        first, second = ([answers(rng, labels, 0.7) for _ in range(2)] for _ in range(2))
        of = paired_difference(ACCURACY, first, second, labels, resamples=200, seed=trial)
        found += present(of.p) <= 0.05
    assert stats.binom.sf(found - 1, 200, 0.05) > 1e-3


def test_of_one_seed_own_rows_are_the_rows():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 60)
    first, second = answers(rng, labels, 0.85), answers(rng, labels, 0.7)
    interval = score_interval(ACCURACY, [first], labels, resamples=200)
    assert own_rows_interval(ACCURACY, [first], [labels], resamples=200) == interval
    difference = paired_difference(ACCURACY, [first], [second], labels, resamples=200)
    own = own_rows_difference(ACCURACY, [first], [second], [labels], resamples=200)
    assert own == difference


def test_seeds_with_rows_of_their_own_keep_their_rates():
    rng = np.random.default_rng(5)
    held = 0
    significant = 0
    for trial in range(100):
        # Three seeds, each with labels and rows of its own.
        labels = [rng.integers(0, 2, 40) for _ in range(3)]
        first = [answers(rng, own, 0.7) for own in labels]
        second = [answers(rng, own, 0.7) for own in labels]
        interval = own_rows_interval(ACCURACY, first, labels, resamples=150, seed=trial)
        low, high = present(interval)
        held += low <= 0.7 <= high
        tested = own_rows_difference(ACCURACY, first, second, labels, resamples=150, seed=trial)
        significant += present(tested.p) <= 0.05
    assert stats.binom.cdf(held, 100, 0.95) > 1e-3
    assert held < 100
    assert stats.binom.sf(significant - 1, 100, 0.05) > 1e-3


def test_what_is_right_on_its_own_rows_is_right_whatever_the_other_seed_has():
    labels = [np.tile([0, 1], 20), np.tile([1, 0], 20)]
    low, high = present(own_rows_interval(ACCURACY, labels, labels, resamples=50))
    assert low == high == 1.0
    wrong = [1 - own for own in labels]
    difference = own_rows_difference(ACCURACY, labels, wrong, labels, resamples=200)
    assert difference.value == 1.0
    assert present(difference.p) < 0.02
    few = [own[: FEWEST_ROWS - 1] for own in labels]
    assert own_rows_interval(ACCURACY, few, few) is None
    assert own_rows_difference(ACCURACY, few, few, few).interval is None


def test_accuracy_of_one_seed_meets_the_exact_sign_test():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 80)
    first, second = answers(rng, labels, 0.85), answers(rng, labels, 0.7)
    of = paired_difference(ACCURACY, [first], [second], labels, resamples=20_000)
    only_first, only_second = (
        np.sum((first == labels) & (second != labels)),
        np.sum((first != labels) & (second == labels)),
    )
    assert of.value == pytest.approx((only_first - only_second) / 80)
    assert of.p == pytest.approx(
        stats.binomtest(only_first, only_first + only_second).pvalue, abs=0.01
    )
    low, high = present(of.interval)
    assert low < of.value < high


@pytest.mark.parametrize("metric", ["accuracy", "mcc", "f1", "spearman"])
def test_a_pooler_does_not_differ_from_itself_and_signs_turn(metric):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 100)
    predictions = [answers(rng, labels, skill) for skill in (0.6, 0.9)]
    same = paired_difference(METRICS[metric], predictions, predictions, labels, resamples=99)
    assert same.value == 0
    low, high = present(same.interval)
    assert low <= 0 <= high
    assert present(same.p) > 0.2
    one, other = (
        paired_difference(METRICS[metric], *of, labels, resamples=199)
        for of in ((predictions[1:], predictions[:1]), (predictions[:1], predictions[1:]))
    )
    assert one.value == pytest.approx(-other.value)
    assert one.value > 0
    assert present(one.p) < 0.05


def test_too_few_rows_give_no_interval():
    labels = np.arange(FEWEST_ROWS - 1) % 2
    assert score_interval(ACCURACY, [labels], labels) is None
    of = paired_difference(ACCURACY, [labels], [1 - labels], labels)
    assert of == (1.0, None, None, None)
    assert (
        score_interval(ACCURACY, [np.arange(FEWEST_ROWS) % 2], np.arange(FEWEST_ROWS) % 2)
        is not None
    )


def test_deviation_needs_two_values():
    assert mean_deviation([0.5]) == (0.5, None)
    assert mean_deviation([0.4, 0.6]) == (
        pytest.approx(0.5),
        pytest.approx(np.std([0.4, 0.6], ddof=1)),
    )


def test_twins_are_one_piece_of_evidence():
    # A pooler blind to what tells twins apart is right for exactly one of each two: nothing about
    # its accuracy is uncertain.
    labels = np.tile([0, 1], 100)
    twins = np.repeat(np.arange(100), 2)
    blind = np.repeat(np.random.default_rng(0).integers(0, 2, 100), 2)
    assert score_interval(ACCURACY, [blind], labels, groups=twins) == (0.5, 0.5)
    low, high = present(score_interval(ACCURACY, [blind], labels))
    assert low < 0.5 < high
    # Right for both or for none: as uncertain as half as many rows.
    rng = np.random.default_rng(1)
    both = np.where(np.repeat(rng.random(100) < 0.7, 2), labels, 1 - labels)
    wide, narrow = (
        np.ptp(present(score_interval(ACCURACY, [both], labels, groups=groups)))
        for groups in (twins, None)
    )
    np.testing.assert_allclose(wide / narrow, np.sqrt(2), rtol=0.15)
    # A group of one row each changes nothing, whatever the groups are called.
    names = rng.permutation(200) + 7
    found = [
        paired_difference(ACCURACY, [both], [blind], labels, groups=groups, resamples=200)
        for groups in (None, names)
    ]
    assert found[0].value == found[1].value
    one, other = (present(of.interval) for of in found)
    np.testing.assert_allclose(one, other, atol=0.03)
    assert paired_difference(
        ACCURACY, [both], [blind], labels, groups=np.repeat(np.arange(10), 20)
    ) == (found[0].value, None, None, None)


def test_groups_change_sides_together():
    # 30 groups of four equal rows: the exact sign test of 30 pairs.
    rng = np.random.default_rng(3)
    labels = np.repeat(rng.integers(0, 2, 30), 4)
    first, second = (
        np.repeat(np.where(rng.random(30) < skill, labels[::4], 1 - labels[::4]), 4)
        for skill in (0.9, 0.6)
    )
    wins, losses = (
        int(((a == labels) & (b != labels)).sum() // 4)
        for a, b in ((first, second), (second, first))
    )
    exact = stats.binomtest(wins, wins + losses).pvalue
    found = paired_difference(
        ACCURACY, [first], [second], labels, groups=np.repeat(np.arange(30), 4), resamples=4000
    )
    assert found.p == pytest.approx(exact, abs=0.03)


def test_holm_steps_down():
    # At the 5 % level of four: 0.0125, 0.0167, 0.025, 0.05.
    assert holm([0.012, 0.016, 0.03, 0.04]) == 2
    assert holm([0.04, 0.03, 0.016, 0.012]) == 2
    assert holm([0.013, 0.0001, 0.9]) == 2
    assert holm([0.013, 0.013, 0.013, 0.013]) == 0
    assert holm([0.04]) == 1
    assert holm([]) == 0


def test_holm_is_wrong_as_rarely_as_it_says():
    rng = np.random.default_rng(0)
    assert 0.03 < np.mean([holm(rng.random(12).tolist()) > 0 for _ in range(2000)]) < 0.07


def test_other_seeds_are_another_question_than_other_rows():
    """Rows tell the trained heads apart; the scores of their seeds do not."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 400)
    skills = {
        "lucky": (0.99, 0.70, 0.95),
        "other": (0.80, 0.92, 0.72),
        "better": (0.99, 0.985, 0.98),
        "worse": (0.60, 0.62, 0.61),
    }
    guesses = {name: [answers(rng, labels, skill) for skill in of] for name, of in skills.items()}
    found = paired_difference(ACCURACY, guesses["lucky"], guesses["other"], labels, resamples=999)
    assert present(found.p) < 0.01
    # Welch (Biometrika 34, 1947), in its own words.
    first, second = (
        np.array([ACCURACY(of, labels) for of in guesses[name]], np.float64)
        for name in ("lucky", "other")
    )
    parts = [of.var(ddof=1) / 3 for of in (first, second)]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    assert found.p_seeds == pytest.approx(
        2 * stats.t.sf(abs(first.mean() - second.mean()) / sum(parts) ** 0.5, freedom)
    )
    assert found.p_both == present(found.p_seeds) > 0.3
    clear = paired_difference(ACCURACY, guesses["better"], guesses["worse"], labels, resamples=999)
    assert max(present(clear.p), present(clear.p_seeds)) == present(clear.p_both) < 0.01
    assert p_text(clear.p, clear.p_seeds) == f" ({clear.p:.3f}; {clear.p_seeds:.3f})"
    # One seed says nothing about seeds, nor do seeds that change nothing.
    for one in (guesses["lucky"][:1], guesses["lucky"][:1] * 3):
        alone = paired_difference(ACCURACY, one, one, labels, resamples=99)
        assert (alone.p_seeds, alone.p_both) == (None, alone.p)
    assert (
        paired_difference(
            ACCURACY,
            guesses["better"],
            guesses["worse"],
            labels,
            groups=np.zeros(400),
            resamples=99,
        ).p_both
        is None
    )


def test_equal_poolers_differ_over_seeds_as_rarely_as_it_says():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 2, 100)
    found = 0
    for _ in range(400):
        first, second = (
            [answers(rng, labels, rng.uniform(0.6, 0.9)) for _ in range(3)] for _ in range(2)
        )
        of = paired_difference(ACCURACY, first, second, labels, groups=np.zeros(100))
        found += present(of.p_seeds) <= 0.05
    assert stats.binom.sf(found - 1, 400, 0.05) > 1e-3

"""scikit-learn's own checks of an estimator, on `TextClassifier` and `TextRegressor`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_requires_y_none,
    check_supervised_y_2d,
    check_supervised_y_no_nan,
    parametrize_with_checks,
)
from support.tiny_backbones import make_backbone

from glot_jax.inference.estimators import TextClassifier, TextRegressor

pytestmark = pytest.mark.xdist_group("estimator-checks")  # what they share is made once

WORDS = ("cat", "dog", "sun", "bird", "park", "train", "mat", "old")


def as_texts(X):
    """Rows of numbers as texts: a word for each number, by how large it is."""
    if scipy.sparse.issparse(X):
        return X
    rows = np.asarray(X, float)
    rows = rows.reshape(len(rows), -1)
    bins = np.clip(np.floor(2 * rows) + 4, 0, 7).astype(int)
    return [" ".join(WORDS[number] for number in row[:6]) for row in bins]


def tags_of_numbers(tags):
    """Tags by which the checks are run, and not left out as those of texts are."""
    tags.input_tags.string = False
    tags.input_tags.one_d_array = False
    tags.input_tags.two_d_array = True
    # That numbers are no nan, not complex and not sparse is nothing that texts are asked for.
    tags.no_validation = True
    # A backbone of random weights, and one epoch.
    if tags.classifier_tags is not None:
        tags.classifier_tags.poor_score = True
    if tags.regressor_tags is not None:
        tags.regressor_tags.poor_score = True
    return tags


class ClassifierOfNumbers(TextClassifier):
    """The checks feed numbers, which become texts before anything of ours sees them."""

    def fit(self, X, y):
        return super().fit(as_texts(X), y)

    def predict(self, X):
        return super().predict(as_texts(X))

    def __sklearn_tags__(self):
        return tags_of_numbers(super().__sklearn_tags__())

    def predict_proba(self, X):
        return super().predict_proba(as_texts(X))


class RegressorOfNumbers(TextRegressor):
    """See ClassifierOfNumbers."""

    def fit(self, X, y):
        return super().fit(as_texts(X), y)

    def predict(self, X):
        return super().predict(as_texts(X))

    def __sklearn_tags__(self):
        return tags_of_numbers(super().__sklearn_tags__())


def tiny_estimator(kind):
    return kind(
        "tiny",
        # Quickly compiled: what is checked has nothing to do with the pooler.
        pooler="mean",
        epochs=1,
        batch_size=16,
        device="cpu",
        settings={"buckets": 1},
    )


LAST_DIGIT = "sums are taken in float32: a batch of another composition differs in the last digit"
NOT_APPLICABLE = {
    # They allow 1e-9 and 1e-7.
    "check_methods_sample_order_invariance": LAST_DIGIT,
    "check_methods_subset_invariance": LAST_DIGIT,
}
SAME_NUMBERS = ("readonly_memmap", "X_dtype")
"""Variants of checks that hand over the same numbers in another array: the same texts again."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOT_JAX_CACHE", str(folder / "cache"))
        yield str(make_backbone("bert", folder / "tiny", dim=16, num_layers=1))


@parametrize_with_checks(
    [tiny_estimator(ClassifierOfNumbers), tiny_estimator(RegressorOfNumbers)],
    expected_failed_checks=lambda _estimator: NOT_APPLICABLE,
    # How a machine adds up decides whether it fails.
    xfail_strict=False,
)
def test_scikit_learns_own_checks(estimator, check, tiny):
    if set(SAME_NUMBERS) & set(check.keywords):
        pytest.skip("the same texts as in the check without it")
    copy: Any = clone(estimator)
    check(copy.set_params(backbone=tiny))


# Of labels: `no_validation` leaves them out together with those of numbers.
@pytest.mark.parametrize("kind", [ClassifierOfNumbers, RegressorOfNumbers])
@pytest.mark.parametrize(
    "check", [check_supervised_y_2d, check_supervised_y_no_nan, check_requires_y_none]
)
def test_checks_of_labels(kind, check, tiny):
    check(kind.__name__, tiny_estimator(kind).set_params(backbone=tiny))


def test_texts_are_what_the_tags_say(tiny):
    tags = get_tags(TextClassifier(tiny))
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.no_validation
    assert tags.target_tags.required

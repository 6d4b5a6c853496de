"""Controls of the stress test: what the label gives away without any relation between words.

A pooler's score is read beside theirs: where a control reaches 1.000, so does a pooler that has
understood nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from glot_jax.texts.stress_texts import StressRow
from glot_jax.texts.stress_words import PAIRS


def order_feature(words: Sequence[str]) -> int | None:
    """Tell which member of a pair of `PAIRS` stands first, from the words or tokens of a text.

    For a truncated text this tells whether the signal is left.

    Returns:
        1 if the first-listed member stands before the other, 0 if after it, None if one is missing.
    """
    # A text has one pair of them; a truncated one may have half of it.
    for first, second in PAIRS:
        if first in words and second in words:
            return int(words.index(first) < words.index(second))
    return None


def length_feature(rows: Sequence[StressRow]) -> np.ndarray:
    """Word counts [rows, 1] int64."""
    counts = [len(row.text.split()) for row in rows]
    # scikit-learn takes a column for each feature, here one.
    return np.array(counts, dtype=np.int64).reshape(-1, 1)


def controls(
    protocol: str,
    splits: Mapping[str, Sequence[StressRow]],
    seed: int,
    kept: Sequence[str] | None = None,
) -> dict[str, float]:
    """Test accuracies of baselines that are fitted to the train split.

    On twins the first two are 0.5 exactly: both twins have the same features, so both are given the
    same class, and it is right for one of them.

    Args:
        protocol: how the texts were generated.
        splits: the rows of train and test.
        seed: of the decision tree and the regression.
        kept: what truncation leaves of the test texts, which is what `order` reads, so that it
            scores 1.0 only if every text still tells its label; None: all of them.

    Returns:
        Accuracies of `length` (decision tree), `bag-of-words` (logistic regression), and for
        `controlled` of `order`.
    """
    train = splits["train"]
    test = splits["test"]
    # Scored on the test split, as the poolers are.
    truth = _labels(test)
    predictions = {
        "length": _predicted_by_length(train, test, seed),
        "bag-of-words": _predicted_by_words(train, test, seed),
    }
    if protocol == "controlled":
        texts = kept or [row.text for row in test]
        order = [order_feature(text.split()) for text in texts]
        # None becomes NaN, which equals no label: a text without its signal is a wrong answer.
        predictions["order"] = np.array(order, dtype=float)
    accuracies: dict[str, float] = {}
    for name, predicted in predictions.items():
        accuracies[name] = float(np.mean(predicted == truth))
    return accuracies


def _labels(rows: Sequence[StressRow]) -> np.ndarray:
    return np.array([row.label for row in rows])


def _predicted_by_length(
    train: Sequence[StressRow],
    test: Sequence[StressRow],
    seed: int,
) -> np.ndarray:
    """Labels [rows of test] that the word count alone predicts."""
    # Imported here: scikit-learn takes a second, and extraction does without it.
    from sklearn.tree import DecisionTreeClassifier

    # Three questions about one number tell any threshold; deeper trees learn the rows by heart.
    tree = DecisionTreeClassifier(max_depth=3, random_state=seed)
    tree.fit(length_feature(train), _labels(train))
    return tree.predict(length_feature(test))


def _predicted_by_words(
    train: Sequence[StressRow],
    test: Sequence[StressRow],
    seed: int,
) -> np.ndarray:
    """Labels [rows of test] that the words predict, whatever their order."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train_texts = [row.text for row in train]
    test_texts = [row.text for row in test]
    # Words are what blanks separate: the default pattern would leave out those of one letter.
    bag = CountVectorizer(token_pattern=r"\S+")
    regression = LogisticRegression(max_iter=1000, random_state=seed)
    regression.fit(bag.fit_transform(train_texts), _labels(train))
    return np.asarray(regression.predict(bag.transform(test_texts)))

"""The example messages: what their README says of them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

FOLDER = Path(__file__).parents[1] / "examples" / "messages"
SPLITS = {"train": 408, "validation": 96, "test": 96}


def read(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, str]]]:
    return {name: read(name) for name in SPLITS}


def test_each_topic_has_a_hundred_rows_and_its_share_of_each_split(splits):
    assert {name: len(rows) for name, rows in splits.items()} == SPLITS
    rows = [row for split in splits.values() for row in split]
    topics = {row["topic"] for row in rows}
    assert topics == {"account", "billing", "delivery", "fault", "question", "returns"}
    for topic in topics:
        for name, count in SPLITS.items():
            assert sum(row["topic"] == topic for row in splits[name]) == count // 6


def test_no_two_messages_share_six_words_in_a_row(splits):
    texts = [row["text"] for split in (*splits.values(), read("new")) for row in split]
    assert len(texts) == len(set(texts)) == 612
    seen: dict[tuple[str, ...], str] = {}
    for text in texts:
        tokens = words(text)
        for start in range(len(tokens) - 5):
            six = tuple(tokens[start : start + 6])
            assert seen.setdefault(six, text) == text, six


def test_nothing_is_alike_across_splits(splits):
    """No message has two thirds of its words in common with one of another split."""
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for row in splits[first]:
            own = set(words(row["text"]))
            for other in splits[second]:
                its = set(words(other["text"]))
                assert len(own & its) / len(own | its) < 2 / 3, (row["text"], other["text"])


def test_bags_of_words_are_neither_helpless_nor_enough(splits):
    model = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    train = splits["train"]
    model.fit([row["text"] for row in train], [row["topic"] for row in train])
    for name in ("validation", "test"):
        rows = splits[name]
        accuracy = model.score([row["text"] for row in rows], [row["topic"] for row in rows])
        assert 0.60 <= accuracy <= 0.85

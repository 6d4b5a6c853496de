"""Splits on the Hub are read like files; what keeps them from that is one message."""

import sys

import datasets
import pytest
from support.written_files import (
    COLA,
    refuses,
)

from glot_jax.config.extract import ExtractConfig
from glot_jax.texts import Example, open_task


def from_hub(tmp_path, task, **rest):
    return open_task(ExtractConfig(backbone="minilm", task=task, out=tmp_path / "out", **rest))


def test_hub_splits_are_read_like_files(tmp_path, monkeypatch):
    requests = []

    def load_dataset(repository, subset, split):
        requests.append((repository, subset, split))
        rows = [{"sentence": "a", "label": -1}] if split == "test" else COLA
        return datasets.Dataset.from_list([{"idx": index, **row} for index, row in enumerate(rows)])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = from_hub(tmp_path, "cola", max_train_rows=4)
    assert requests == [
        ("nyu-mll/glue", "cola", split) for split in ("train", "validation", "test")
    ]
    sizes = {name: (len(split), len(list(split))) for name, split in data.splits.items()}
    assert sizes == {"train": (4, 4), "validation": (6, 6)}
    assert list(data.splits["validation"])[5] == Example(("Sentence 5.",), 1, 5)
    assert data.notices[0].startswith("test: skipped")


def test_hub_rows_are_checked_like_files(tmp_path, monkeypatch):
    rows = datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "a", "label": 5}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    with refuses("class from 0 to 1", "stanfordnlp/imdb/train:row 2: 5"):
        from_hub(tmp_path, "imdb")
    with refuses(
        "column 'sentence' must be in the data", "nyu-mll/glue/cola/train:row 1", "text, label"
    ):
        from_hub(tmp_path, "cola")
    with refuses(
        "column 'premise', 'hypothesis' must be in the data",
        "nyu-mll/glue/ax/test:row 1",
        "text, label",
    ):
        from_hub(tmp_path, "ax")


@pytest.mark.parametrize(
    "failure", [ConnectionError("offline"), ValueError("gated"), RuntimeError("disk full")]
)
def test_a_hub_that_does_not_answer_leads_to_local_files(tmp_path, monkeypatch, failure):
    def load_dataset(*_, **__):
        raise failure

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with refuses(
        str(failure),
        "--data DIR with {train,validation,test}.{jsonl",
        "sentence1, sentence2, label",
    ):
        from_hub(tmp_path, "rte")


def test_custom_and_missing_packages(tmp_path, monkeypatch):
    with refuses("task custom needs local files", "no --data", "{train,validation,test}"):
        from_hub(tmp_path, "custom", text_columns=("text",))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refuses("this needs the package datasets", "pip install 'glot-jax[extract]'"):
        from_hub(tmp_path, "rte")

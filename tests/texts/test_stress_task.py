"""The stress test as a task: generated, and never read."""

import pytest
from support.stress_rows import ROWS, VOCABULARY, make

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import open_task


def config(tmp_path, **rest):
    return ExtractConfig(
        backbone="minilm", task="diagnostic", out=tmp_path / "out", diagnostic_rows=ROWS, **rest
    )


def test_open_task_serves_the_generated_rows(tmp_path):
    data = open_task(config(tmp_path, sample_seed=5, ratio=0.8))
    expected = make("controlled", 0.8, seed=5)
    assert {name: len(split) for name, split in data.splits.items()} == dict(
        zip(expected, ROWS, strict=True)
    )
    for name, split in data.splits.items():
        rows = [((row.text,), row.label) for row in expected[name]]
        assert [(example.texts, example.label) for example in split] == rows
        assert [example.row for example in split] == list(
            range(len(split))
        )  # the second iteration is the first
    assert data.spec.max_length == 128


def test_open_task_asks_for_the_vocabulary_only_for_paper(tmp_path):
    calls = []

    def vocabulary():
        calls.append(1)
        return VOCABULARY

    open_task(config(tmp_path), vocabulary=vocabulary)
    assert not calls
    data = open_task(config(tmp_path, protocol="paper"), vocabulary=vocabulary)
    assert calls == [1]
    assert data.spec.max_length == 512
    assert [row.texts[0] for row in data.splits["test"]] == [
        row.text for row in make("paper")["test"]
    ]
    with pytest.raises(UsageError, match="backbone's vocabulary"):
        open_task(config(tmp_path, protocol="paper"))
    with pytest.raises(UsageError, match=r"got --max-length 128\. Give 258 or more"):
        open_task(config(tmp_path, protocol="paper", max_length=128), vocabulary=vocabulary)


def test_open_task_takes_no_files_and_no_sample(tmp_path):
    with pytest.raises(UsageError, match="diagnostic must be generated; got --data"):
        open_task(config(tmp_path, data=tmp_path))
    with pytest.raises(UsageError, match="Leave it out and set --diagnostic-rows"):
        open_task(config(tmp_path, max_train_rows=10))
    with pytest.raises(
        UsageError, match="must be read from its own columns: text; got --text-columns"
    ):
        open_task(config(tmp_path, text_columns=("text",)))

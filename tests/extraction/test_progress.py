"""What an extraction tells the user: the size before it starts, and counts when it ends."""

import io

import pytest
from rich.console import Console
from support.dump_case import refuse, run, texts_of

from glot_jax.extraction.progress import Done, SplitProgress, size
from glot_jax.store.records import sum_up


def test_a_small_disk_is_refused_before_the_first_write(make, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    refuse(make(), rf"bytes\) needed for {tmp_path}/store, 1\.0 kB \(1000 bytes\) free")
    assert not list(tmp_path.iterdir())


def test_truncated_texts_are_counted(make, data):
    store, printed = run(make(max_length=5))
    expected = sum(len(text.split()) > 3 for text in texts_of(data))
    assert store.manifest.splits["train"].truncated == expected > 0
    assert f"{expected} of 30 texts were cut to 5 tokens" in printed
    assert store["train"].text_lengths.max() == 5


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (75_300_000, "75.3 MB"), (2e13, "20.0 TB")],
)
def test_sizes_are_written_for_people(count, text):
    assert size(count) == text


def test_what_an_earlier_run_stored_does_not_count_as_speed():
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    with SplitProgress(console, "train", tokens=100) as progress:
        progress.find(40)
        before = progress.done
        progress.store(30, 60)
        progress.rewind(before)
        progress.store(20, 80)
    assert progress.done == Done(earlier=40, stored=20, volume=80)
    record = sum_up(5, [], {})
    progress.summarise(record, max_length=8)
    assert "train: 5 rows, 0 tokens, 0 shards" in printed.getvalue()
    assert "tokens/s" in printed.getvalue()


def test_a_split_that_was_stored_before_has_nothing_left_to_do():
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    with SplitProgress(console, "train", tokens=100) as progress:
        progress.find(100)
    progress.summarise(sum_up(5, [], {}), max_length=8)
    assert "nothing left to do" in printed.getvalue()

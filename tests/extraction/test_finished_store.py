"""A finished store is compared with the extraction that would make it, and left as it is."""

import dataclasses

import pytest
from support.dump_case import interrupt_after, refuse, run, write_rows
from support.extraction_case import tree

from glot_jax.store import HiddenStore
from glot_jax.store.layout import lock_folder
from glot_jax.store.writer import ShardWriter


def test_a_finished_store_is_left_as_it_is(make, monkeypatch):
    config = make()
    run(config)
    before = tree(config.out)
    monkeypatch.setattr(ShardWriter, "__enter__", lambda _self: pytest.fail("a shard was written"))
    lock_folder(config.out).mkdir()
    store, printed = run(dataclasses.replace(config, tokens_per_batch=7, padding_side="left"))
    assert "complete already" in printed
    assert tree(config.out) == before
    assert store.content == HiddenStore(config.out).content
    assert not lock_folder(config.out).exists()


CHANGES = {
    "text": lambda rows: [*rows[:1], {**rows[1], "text0": "nobody saw"}, *rows[2:]],
    "fewer": lambda rows: rows[:3],
    "label": lambda rows: [{**rows[0], "label": 1}, *rows[1:]],
}


# An unfinished split has no labels yet.
@pytest.mark.parametrize(
    ("change", "finished"),
    [("text", True), ("fewer", True), ("label", True), ("text", False), ("fewer", False)],
)
def test_other_texts_or_labels_are_refused(make, monkeypatch, tmp_path, change, finished):
    config = make(data=write_rows(tmp_path / "data"))
    with monkeypatch.context() as patch:
        if finished:
            run(config)
        else:
            interrupt_after(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                run(config)
    before = tree(config.out)
    write_rows(tmp_path / "data", change=CHANGES[change])
    refuse(config, "the data changed since|The data changed since")
    assert tree(config.out) == before


def test_a_finished_store_with_a_missing_shard_is_refused(make):
    config = make()
    run(config)
    (config.out / "train/shard-00001").rename(config.out.parent / "gone")
    refuse(config, "shard-00001, which is missing")

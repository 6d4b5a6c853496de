"""The folder OUT: somebody else's is refused, and what nothing was stored in is taken back."""

import dataclasses

import pytest
from support.dump_case import interrupt_after, refuse, run
from support.extraction_case import tree

from glot_jax.store.layout import lock_folder


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_is_refused_field_by_field(make, folders, monkeypatch, finished):
    config = make()
    with monkeypatch.context() as patch:
        if finished:
            run(config)
        else:
            interrupt_after(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                run(config)
    before = tree(config.out)
    refuse(
        dataclasses.replace(config, max_length=9, layers=(0,)),
        r"layers: \[2\] -> \[0\]\n  max_length: 64 -> 9\n(.*\n)*.*Choose another --out",
    )
    refuse(dataclasses.replace(config, backbone=str(folders["roberta"])), r"backbone\.sha256: ")
    refuse(
        dataclasses.replace(config, storage_dtype="float16"),
        r"storage_dtype: 'float32' -> 'float16'",
    )
    refuse(dataclasses.replace(config, shard_tokens=61), "shard_tokens: 60 -> 61")
    assert tree(config.out) == before


def test_a_folder_of_somebody_else_is_refused(make):
    config = make()
    config.out.mkdir()
    (config.out / "thesis.txt").write_text("mine")
    refuse(config, "holds other things")
    assert tree(config.out) == {"thesis.txt": b"mine"}
    file = make("file")
    file.out.write_text("")
    refuse(file, "which is a file")


def test_an_empty_folder_may_be_used_and_stays_if_nothing_is_stored(make, monkeypatch):
    config = make()
    config.out.mkdir()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert list(config.out.iterdir()) == []
    assert not lock_folder(config.out).exists()
    run(config)


def test_an_output_that_cannot_be_written_is_refused(make, tmp_path):
    (tmp_path / "file").write_text("")
    refuse(make("file/store"), "can be written|not a directory|Not a directory")

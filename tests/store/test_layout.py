"""Names of files and folders."""

from pathlib import Path

import pytest

from glot_jax.errors import UsageError
from glot_jax.store.layout import (
    array_file,
    check_split_name,
    lock_folder,
    refuse_link,
    shard_files,
)


def test_shard_files_are_named_by_layer_and_number():
    assert shard_files({0: "float16", 6: "float16"}, 3) == (
        "lengths.npy",
        "token_ids.npy",
        "hidden-L0-00003.npy",
        "hidden-L6-00003.npy",
    )


def test_an_append_numbers_the_row_arrays():
    assert array_file("labels.npy", 0) == "labels.npy"
    assert array_file("labels.npy", 2) == "labels-2.npy"


def test_int8_states_have_scales_beside_them():
    assert shard_files({3: "int8"}, 0)[2:] == ("hidden-L3-00000.npy", "scale-L3-00000.npy")


def test_the_lock_of_a_linked_store_lies_beside_its_target(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert lock_folder(tmp_path / "link") == tmp_path.resolve() / "store.lock"
    monkeypatch.chdir(tmp_path / "store")
    assert lock_folder(Path()) == tmp_path.resolve() / "store.lock"


@pytest.mark.parametrize("name", ["train", "validation_matched", "v1.2", "0"])
def test_names_that_can_be_folders_everywhere_are_names_of_splits(name):
    check_split_name(name)


@pytest.mark.parametrize("name", ["", ".", "../train", "a b", ".hidden", "a/b", "-x"])
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match="must consist of letters"):
        check_split_name(name)


def test_links_are_not_written_through(tmp_path):
    refuse_link(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="must not be written through symbolic links"):
        refuse_link(tmp_path / "link")

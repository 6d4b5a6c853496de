"""The calls that change a disk, one by one."""

import os

import pytest

from glot_jax import disk


def test_bytes_are_written_where_they_belong_even_in_pieces(tmp_path, monkeypatch):
    """The system may take less than it is given."""
    pieces = []

    def some(file, data, at, write=os.pwrite):
        pieces.append(min(3, len(data)))
        return write(file, data[:3], at)

    monkeypatch.setattr(os, "pwrite", some)
    file = disk.create(tmp_path / "a")
    disk.write(file, b"", 0)
    disk.write(file, b"abcdefgh", 2)
    disk.close(file)
    assert pieces == [3, 3, 2]
    assert (tmp_path / "a").read_bytes() == b"\0\0abcdefgh"


def test_creating_a_file_empties_it(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    disk.close(disk.create(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b""


def test_a_rename_replaces_and_a_link_does_not(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        disk.link(tmp_path / "a", tmp_path / "b")
    disk.rename(tmp_path / "a", tmp_path / "b")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["a"]


def test_what_is_gone_can_be_removed_and_a_link_goes_alone(tmp_path):
    target = tmp_path / "target"
    disk.make_folder(target)
    disk.make_folder(target)
    (target / "file").write_text("kept")
    (tmp_path / "link").symlink_to(target)
    disk.remove(tmp_path / "link")
    assert (target / "file").read_text() == "kept"
    disk.remove(target)
    disk.remove(target)
    assert list(tmp_path.iterdir()) == []

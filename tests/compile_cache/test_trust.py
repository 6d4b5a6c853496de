"""A folder is trusted only where nobody but its user can put a program into it."""

from __future__ import annotations

import os
import stat

import pytest

from glot_jax.compile_cache.trust import UntrustedFolderError, trusted_folder

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's home, with the folders on the way to `compiled`."""
    home = tmp_path / "home"
    folder = home
    folder.mkdir(mode=0o755)
    for name in (".cache", "glot-jax", "compiled"):
        folder = folder / name
        folder.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    return home


def way(home) -> list:
    """The home, and every folder from there to the cache."""
    folder = home / ".cache" / "glot-jax" / "compiled"
    return [home, *reversed(list(folder.parents)[:2]), folder]


def test_missing_folders_are_made_for_their_user_alone(home):
    folder = home / "a" / "b"
    assert trusted_folder(folder) == folder
    for made in (folder, folder.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_others_may_write_nowhere_on_the_way_from_home(home, depth, mode):
    folders = way(home)
    assert trusted_folder(folders[-1]) == folders[-1]
    folders[depth].chmod(mode)
    with pytest.raises(UntrustedFolderError) as refused:
        trusted_folder(folders[-1])
    assert str(refused.value) == (
        f"others may write to {folders[depth]} (mode {mode:04o}); chmod go-w {folders[depth]}"
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_folder_below_the_home_is_a_link(home, depth):
    folders = way(home)
    folders[depth].rename(home / "elsewhere")
    folders[depth].symlink_to(home / "elsewhere")
    with pytest.raises(
        UntrustedFolderError, match="is a symbolic link; name the folder it leads to"
    ):
        trusted_folder(folders[-1])


def test_the_home_may_be_reached_by_a_link(home, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    assert trusted_folder(tmp_path / "link" / ".cache") == home / ".cache"


@AS_ROOT
@pytest.mark.parametrize("depth", range(4))
def test_every_folder_from_the_home_on_is_the_users_own(home, depth):
    folders = way(home)
    os.chown(folders[depth], NOBODY, NOBODY)
    with pytest.raises(UntrustedFolderError) as refused:
        trusted_folder(folders[-1])
    assert str(refused.value) == f"{folders[depth]} belongs to another user"


def test_outside_the_home_a_parent_of_all_must_be_sticky(home, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(UntrustedFolderError, match=r"others may write to .*shared \(mode 0777\)"):
        trusted_folder(shared / "mine")
    shared.chmod(0o1777)
    assert trusted_folder(shared / "mine") == shared / "mine"
    # The folder itself is nobody else's, sticky or not.
    with pytest.raises(UntrustedFolderError, match=r"others may write to .*shared \(mode 1777\)"):
        trusted_folder(shared)
    assert not home.is_relative_to(shared)


@AS_ROOT
def test_outside_the_home_no_parent_is_somebody_elses(home, tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "mine").mkdir(parents=True)
    os.chown(theirs, NOBODY, NOBODY)
    with pytest.raises(UntrustedFolderError, match="theirs belongs to another user"):
        trusted_folder(theirs / "mine")
    assert not home.is_relative_to(theirs)


def test_a_link_outside_the_home_is_refused_as_well(home, tmp_path):
    (tmp_path / "link").symlink_to(home.parent)
    with pytest.raises(UntrustedFolderError, match="link is a symbolic link"):
        trusted_folder(tmp_path / "link" / "cache")
    # Not followed on the way up either.
    assert trusted_folder(tmp_path / "link" / ".." / "cache") == tmp_path / "cache"


def test_a_file_is_no_folder(home):
    (home / "file").write_text("")
    with pytest.raises(UntrustedFolderError, match="file is not a folder"):
        trusted_folder(home / "file" / "cache")


def test_a_folder_that_cannot_be_made_is_told_with_the_reason(home):
    home.chmod(0o500)
    if os.access(home, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UntrustedFolderError, match="Permission denied"):
        trusted_folder(home / "new")


def test_a_user_without_a_home_may_name_a_folder(tmp_path, monkeypatch):
    def no_home() -> None:
        raise RuntimeError("no home")

    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert trusted_folder(tmp_path / "cache") == tmp_path / "cache"

"""Files are what they were when they were written.

Links are followed, and files that are not on this machine are named.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glot_jax.cli import main
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.store import HiddenStore, describe, verify
from glot_jax.store.layout import MANIFEST

STATES = "train/shard-00001/hidden-L2-00001.npy"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def read_train(store: Path, trust: bool = False) -> None:
    reader = HiddenStore(store, trust=trust)["train"]
    assert len(reader.read_all()) == len(
        np.concatenate([reader.token_ids(text) for text in reader.row_texts.tolist()])
    )
    assert reader.labels is not None


def command(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_a_file_is_hashed_once_by_a_process_and_not_at_all_when_trusted(store, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "glot_jax.store.integrity.file_sha256",
        lambda path: hashed.append(path) or file_sha256(path),
    )
    HiddenStore(store, trust=True)["train"].read_all()
    assert hashed == []
    HiddenStore(store)["train"].read_all()
    first = len(hashed)
    assert first == 3
    HiddenStore(store)["train"].read_all()
    assert len(hashed) == first


def test_a_process_does_not_wait_for_hashes_that_nobody_reads(tmp_path):
    script = (
        "import time, glot_jax.store.integrity as files\n"
        "files.file_sha256 = lambda path: time.sleep(60)\n"
        f"path = __import__('pathlib').Path({str(tmp_path / 'file')!r}); path.write_bytes(b'x')\n"
        "files.hash_ahead(path, {'sha256': '', 'bytes': 1})"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_a_store_of_links_is_read_like_one_of_files(made, linked):
    assert verify(linked) == []
    assert command("store", "verify", linked) == 0
    assert {**describe(linked), "path": ""} == {**describe(made), "path": ""}
    for split in made.iterdir():
        if split.is_dir():
            assert np.array_equal(
                HiddenStore(linked)[split.name].read_all(), HiddenStore(made)[split.name].read_all()
            )


def test_a_folder_that_is_a_link_is_read_too(made, tmp_path):
    (tmp_path / "store").symlink_to(made)
    assert verify(tmp_path / "store") == []
    store = shutil.copytree(made, tmp_path / "split")
    (store / "train").rename(tmp_path / "elsewhere")
    (store / "train").symlink_to(tmp_path / "elsewhere")
    assert verify(store) == []
    assert np.array_equal(
        HiddenStore(store)["train"].read_all(), HiddenStore(made)["train"].read_all()
    )


def test_what_a_link_leads_to_is_checked(linked):
    target = (linked / STATES).resolve()
    target.chmod(0o644)
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    assert verify(linked) == [str(linked / STATES)]
    with pytest.raises(
        UsageError, match=f"sha256 of its record; got .*{STATES}, whose content differs"
    ):
        HiddenStore(linked)["train"].read_all()


@pytest.mark.parametrize(
    "name", [STATES, "train/shard-00001", "train", MANIFEST, "train/labels.npy", "."]
)
def test_a_link_to_nothing_names_its_target_and_how_to_fetch_it(plain, name, capsys):
    path = plain / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to("../cache/ab/cdef")
    with pytest.raises(
        UsageError,
        match=(
            rf"got {path}, a link to \.\./cache/ab/cdef, which is missing. Fetch .*dvc pull.*git"
            r" annex get"
        ),
    ):
        read_train(plain)
    if name != ".":
        assert command("store", "verify", plain) == 1
        assert "dvc pull" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [STATES, MANIFEST, "train/labels.npy", "train/shard-00000/lengths.npy"]
)
@pytest.mark.parametrize("trust", [False, True])
def test_a_pointer_of_git_lfs_says_how_to_fetch_the_file(plain, name, trust, capsys):
    (plain / name).write_text(POINTER)
    with pytest.raises(
        UsageError,
        match=f"got {plain / name}, a pointer of git-lfs in the file's place. Run `git lfs pull`",
    ):
        read_train(plain, trust)
    assert command("store", "verify", plain) == 1
    assert "git lfs pull" in capsys.readouterr().err

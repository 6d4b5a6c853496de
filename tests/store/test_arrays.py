"""Stores of links, as DVC and git-annex lay them out: read like any other, never written through;
and what is not fetched says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_stores import make_store

from glot_jax.cli import main
from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore, describe, finish, read_manifest, verify
from glot_jax.store.finish import remove_leftovers, remove_superseded
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import MANIFEST, Appended, Manifest, write_manifest
from glot_jax.store.writer import ShardWriter

STATES = "train/shard-00001/hidden-L2-00001.npy"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture
def plain(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "plain"))


@pytest.fixture
def linked(made, tmp_path) -> Path:
    """Real folders, every file a link into a cache that nobody may write to."""
    store, cache = Path(shutil.copytree(made, tmp_path / "linked")), tmp_path / "cache"
    cache.mkdir()
    for number, file in enumerate(sorted(path for path in store.rglob("*") if path.is_file())):
        target = file.rename(cache / f"{number:02d}")
        target.chmod(0o444)
        file.symlink_to(target)
    return store


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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


def test_a_store_of_links_is_read_like_one_of_files(made, linked, capsys):
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


def plan_of(manifest: Manifest) -> dict:
    splits = {}
    for name, split in manifest.splits.items():
        texts = [
            [shard.files[file]["sha256"] for file in ("lengths.npy", "token_ids.npy")]
            for shard in split.shards
        ]
        splits[name] = {
            "rows": split.rows,
            "texts": texts,
            "arrays": split.arrays,
            "duplicates": None,
        }
    return {"workers": 1, "task": manifest.task, "splits": splits}


def test_shards_that_are_links_are_put_together_and_their_targets_stay(linked, tmp_path):
    manifest, before = read_manifest(linked), content(tmp_path / "cache")
    (linked / MANIFEST).unlink()
    with StoreLock(linked) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan_of(manifest))
    assert finish(linked) == manifest
    assert content(tmp_path / "cache") == before


def test_a_shard_that_is_not_fetched_is_not_to_be_deleted(linked):
    """Elsewhere the advice is to delete a damaged shard and extract it again."""
    manifest = read_manifest(linked)
    (linked / MANIFEST).unlink()
    with StoreLock(linked) as lock:
        lock.begin(manifest.recipe)
        lock.plan(plan_of(manifest))
    (linked / "train/shard-00000/record.json").resolve().unlink()
    with pytest.raises(UsageError, match="record.json, a link to .*Fetch them"):
        finish(linked)


def test_an_append_replaces_links_and_leaves_their_targets(linked, tmp_path):
    manifest, before = read_manifest(linked), content(tmp_path / "cache")
    labels = (linked / "train/labels.npy").read_bytes()
    for array in ("row_offsets", "row_texts", "roles", "labels"):
        (linked / f"train/{array}-1.npy").write_bytes((linked / f"train/{array}.npy").read_bytes())
    train = manifest.splits["train"]
    grown = {
        **manifest.splits,
        "train": type(train)(**{**vars(train), "appended": (Appended(0, 0, "0" * 64),)}),
    }
    write_manifest(linked, Manifest.build(manifest.recipe, manifest.task, grown))
    remove_superseded(linked, read_manifest(linked))
    assert not (linked / "train/labels.npy").is_symlink()
    assert not (linked / "train/labels.npy").exists()
    assert (linked / "train/labels-1.npy").read_bytes() == labels
    assert verify(linked) == []
    assert content(tmp_path / "cache") == before


def test_leftovers_go_but_not_what_a_link_leads_to(plain, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".tmp-shard").mkdir(parents=True)
    (elsewhere / ".tmp-shard" / "file").write_text("somebody's")
    (plain / ".tmp-link").symlink_to(elsewhere)
    (plain / "train" / ".tmp-own").mkdir()
    (plain / "train" / ".tmp-own" / "link").symlink_to(elsewhere / ".tmp-shard" / "file")
    (plain / "other").symlink_to(elsewhere)
    remove_leftovers(plain)
    assert content(elsewhere) == {".tmp-shard/file": b"somebody's"}
    assert verify(plain) == [str(plain / "other")]


def test_a_shard_is_not_written_into_a_linked_split(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "train").symlink_to(tmp_path / "elsewhere")
    lengths = np.ones(2, np.int32)
    with (
        pytest.raises(
            UsageError, match="must not be written through symbolic links; got .*train. .*dvc unprotect"
        ),
        ShardWriter(tmp_path / "train", 0, lengths, lengths, dim=2, dtypes={0: "float16"}),
    ):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())

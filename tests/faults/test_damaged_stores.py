"""Bit rot, lost and foreign files, tampering.

`glot store verify` prints each bad path, `train.py` refuses, nothing is written.
"""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.extraction_case import tree
from support.object_stores import bucket, own_cache, url
from support.synthetic_stores import make_store

from glot_jax import cli
from glot_jax.batches.feed_kinds import RowFeeds
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.remote.objects import Objects
from glot_jax.store import HiddenStore, verify
from glot_jax.store.identity import canonical, canonical_sha256
from glot_jax.store.layout import MANIFEST

__all__ = ["bucket", "own_cache"]

pytestmark = pytest.mark.faults

STATES = "train/shard-00000/hidden-L2-00000.npy"
"""A file that training reads."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("sound") / "store", dtype="float16", dim=16)


@pytest.fixture
def store(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "store"))


def command(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code


def refused(store, capsys, bad):
    """What both commands make of it: `bad` are the paths that verify has to print."""
    assert command("store", "verify", store) == 1
    assert capsys.readouterr().out.splitlines() == sorted(str(store / name) for name in bad)
    out = store.parent / "run"
    assert command("train", "--store", store, "--pooler", "mean", "--epochs", 1, "--out", out) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert not out.exists()
    return said


def flip(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def shorten(path, draw):
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def lengthen(path, draw):
    path.write_bytes(path.read_bytes() + bytes(draw.randrange(1, 100)))


DAMAGE = {
    "bit flip": flip,
    "truncation": shorten,
    "bytes added": lengthen,
    "deletion": lambda path, _draw: path.unlink(),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_every_file_is_guarded(sound, tmp_path, capsys, soak, record_property, damage):
    assert command("store", "verify", sound) == 0
    capsys.readouterr()
    files = sorted(
        path.relative_to(sound)
        for path in sound.rglob("*")
        if path.is_file() and path.name != MANIFEST
    )
    injected = 0
    for name in files:
        for repeat in range(10 if soak else 1):
            store = Path(shutil.copytree(sound, tmp_path / "store"))
            DAMAGE[damage](store / name, random.Random(f"{name}{repeat}"))
            assert verify(store) == [str(store / name)]
            injected += 1
            shutil.rmtree(store)
    record_property(
        "fault",
        {
            "fault": f"{damage} in a store's file",
            "injected": injected,
            "lost": 0,
            "seen": "`store verify` prints the path, exit 1; training refuses it by path",
        },
    )


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_training_refuses_by_path(store, capsys, damage):
    DAMAGE[damage](store / STATES, random.Random(3))
    assert STATES in refused(store, capsys, [STATES])


def test_swapped_shards(store, capsys):
    """Each is whole, and has its own record; only the order is wrong."""
    first, second = store / "train/shard-00000", store / "train/shard-00001"
    first.rename(store / "train/shard-x")
    second.rename(first)
    (store / "train/shard-x").rename(second)
    for folder, index in ((first, 0), (second, 1)):
        (folder / f"hidden-L2-{1 - index:05d}.npy").rename(folder / f"hidden-L2-{index:05d}.npy")
    names = [
        f"train/shard-{index:05d}/{name}"
        for index in (0, 1)
        for name in ("lengths.npy", "record.json", "token_ids.npy", f"hidden-L2-{index:05d}.npy")
    ]
    assert "shard-0000" in refused(store, capsys, names)


def test_foreign_shards_and_files(store, capsys):
    shutil.copytree(store / "train/shard-00000", store / "train/shard-00002")
    (store / "notes.txt").write_text("mine")
    foreign = [
        "notes.txt",
        "train/shard-00002",
        *(f"train/shard-00002/{path.name}" for path in (store / "train/shard-00000").iterdir()),
    ]
    assert command("store", "verify", store) == 1
    assert capsys.readouterr().out.splitlines() == sorted(str(store / name) for name in foreign)


def edit(store, change):
    values = json.loads((store / MANIFEST).read_text())
    change(values)
    (store / MANIFEST).write_text(json.dumps(values))


def forge(store, change):
    """An edit by somebody who knows how the content hash is computed."""
    edit(store, change)
    values = json.loads((store / MANIFEST).read_text())
    splits = values["splits"]
    parts = {
        name: {
            "rows": split["rows"],
            # All of a shard's record but what is counted of its norms.
            "shards": [
                canonical_sha256({key: shard[key] for key in shard if key != "norms"})
                for shard in split["shards"]
            ],
            "arrays": split["arrays"],
        }
        for name, split in splits.items()
    }
    values["content"] = canonical_sha256(
        {"recipe": values["recipe"], "task": values["task"], "splits": parts, "order": list(splits)}
    )
    (store / MANIFEST).write_text(json.dumps(values))


def rename_split(name):
    def change(values):
        values["splits"] = {
            name if key == "train" else key: split for key, split in values["splits"].items()
        }

    return change


def rename_file(values):
    files = values["splits"]["train"]["shards"][0]["files"]
    files["../../secret.npy"] = files.pop("lengths.npy")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["splits"]["train"].update(rows=39),
        lambda values: values["splits"]["train"]["shards"].reverse(),
        lambda values: values["recipe"].update(dim=8),
        lambda values: values["splits"]["train"]["shards"][0]["files"]["lengths.npy"].update(
            sha256="0" * 64
        ),
        lambda values: values.pop("content"),
        lambda values: values.update(schema_version=99),
    ],
)
def test_an_edited_manifest(store, capsys, change):
    edit(store, change)
    assert MANIFEST in refused(store, capsys, [MANIFEST])


@pytest.mark.parametrize(
    "change", [rename_split("../outside"), rename_split("/etc"), rename_split(".."), rename_file]
)
def test_a_forged_manifest_does_not_lead_out_of_the_folder(store, capsys, change):
    forge(store, change)
    assert "content hash" not in refused(store, capsys, [MANIFEST])


def count_more(values, *, shard=None, arrays=(), **counts):
    """Counts of a split, or of its first shard with the sums of the split, and bytes to match."""
    split = values["splits"]["train"]
    owner = split if shard is None else split["shards"][shard]
    for name, number in counts.items():
        if shard is not None:
            split[name] += number - owner[name]
        owner[name] = number
    files = split["arrays"] if shard is None else owner["files"]
    for name in arrays:
        files[name]["bytes"] = 2**50


def read_train(location, cache):
    train = HiddenStore(location, trust=True, cache=cache)["train"]
    RowFeeds().units(train)
    train.read_all()


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 10**12},
        {"shard": 0, "texts": 10**12},
        {"shard": 0, "tokens": 10**12},
        {"shard": 0, "tokens": 10**12, "arrays": ("token_ids.npy",)},
        # Each agrees with all others, and only the files themselves do not.
        {"rows": 10**12, "arrays": ("row_offsets.npy",)},
        {
            "shard": 0,
            "tokens": 10**12,
            "arrays": ("token_ids.npy", "lengths.npy", "hidden-L2-00000.npy"),
        },
    ],
)
@pytest.mark.parametrize("where", ["folder", "url"])
def test_no_memory_is_taken_for_what_is_only_counted(
    store, bucket, monkeypatch, tmp_path, change, where
):
    forge(store, lambda values: count_more(values, **change))
    location = store
    if where == "url":
        location = url(f"{bucket}/store")
        for name, content in tree(store).items():
            Objects(location).put(name, content)

    def limited(original):
        def make(shape, *arguments, **options):
            assert np.prod(shape, dtype=float) < 10**9, "memory for what no file holds"
            return original(shape, *arguments, **options)

        return make

    monkeypatch.setattr(np, "empty", limited(np.empty))
    monkeypatch.setattr(np, "arange", limited(np.arange))
    with pytest.raises(UsageError):
        read_train(location, tmp_path / "fetched")


def test_a_recipe_of_another_width_is_refused(store, capsys):
    forge(store, lambda values: values["recipe"].update(dim=10**9))
    assert "width 16" in refused(store, capsys, [MANIFEST])


def test_forging_is_forging(store):
    """The forgery above is accepted where it changes nothing: it is refused for what it says."""
    forge(store, lambda _values: None)
    assert command("store", "verify", store) == 0


@pytest.mark.parametrize("name", [STATES, "train/shard-00000", "train", MANIFEST])
def test_a_link_is_as_good_as_what_it_leads_to(store, tmp_path, capsys, name):
    (store / name).rename(tmp_path / "elsewhere")
    (store / name).symlink_to(tmp_path / "elsewhere")
    assert command("store", "verify", store) == 0
    damaged = next(
        path for path in sorted((tmp_path / "elsewhere").rglob("*.npy")) or [tmp_path / "elsewhere"]
    )
    flip(damaged, random.Random(name))
    assert command("store", "verify", store) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert (
        command(
            "train", "--store", store, "--pooler", "mean", "--epochs", 1, "--out", tmp_path / "run"
        )
        == 2
    )
    assert not (tmp_path / "run").exists()


def header(path, **change):
    """The same data under another header."""
    array = np.load(path)
    values = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
        **change,
    }
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, values)
        file.write(array.tobytes())


@pytest.mark.parametrize(
    "change",
    [
        {"shape": (10**12, 16)},
        {"shape": (2**62, 2**62)},
        {"shape": (-1, 16)},
        {"descr": "|O"},
        {"descr": "<f8"},
        {"fortran_order": True},
        {"shape": ()},
    ],
)
def test_a_lying_header_under_a_forged_hash(store, capsys, change):
    """The shape and dtype have to be those of the record, even where size and hash agree.

    Nothing huge is allocated, nothing unpickled.
    """
    header(store / STATES, **change)
    record = {"sha256": file_sha256(store / STATES), "bytes": (store / STATES).stat().st_size}

    def agree(values):
        values["splits"]["train"]["shards"][0]["files"]["hidden-L2-00000.npy"] = record

    forge(store, agree)
    (store / "train/shard-00000/record.json").write_bytes(
        canonical(json.loads((store / MANIFEST).read_text())["splits"]["train"]["shards"][0])
        + b"\n"
    )
    said = refused(store, capsys, [STATES])
    assert "a stored array" in said
    assert STATES in said


def test_trust_store_skips_the_hash_and_says_so(store, tmp_path, capsys):
    content = bytearray((store / STATES).read_bytes())
    content[-1] ^= 1
    (store / STATES).write_bytes(content)
    assert (
        command(
            "train",
            "--store",
            store,
            "--pooler",
            "mean",
            "--epochs",
            1,
            "--out",
            tmp_path / "run",
            "--trust-store",
        )
        == 0
    )
    assert "hashes are not checked" in capsys.readouterr().err


def test_no_pickle_anywhere():
    """Neither is anything unpickled, nor does a reader ask for it."""
    package = Path(cli.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path

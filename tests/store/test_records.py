"""Records of shards and splits."""

import pytest

from glot_jax.errors import UsageError
from glot_jax.store import read_manifest
from glot_jax.store.records import (
    ShardRecord,
    check_split,
    plain_record,
    read_record,
    record_bytes,
    sum_up,
)


def shard(tokens: int, error: float | None = None, **changes) -> ShardRecord:
    values = {"texts": 1, "truncated": 0, "empty": 0, "dim": 2, "max_abs": 1.0, "files": {}}
    values |= {"dtypes": {"10": "int8", "9": "int8"}, **changes}
    errors = None if error is None else {"mean": error, "max": 2 * error}
    return ShardRecord(tokens=tokens, cosine_error=errors, **values)


def test_layers_ascend_as_numbers():
    assert list(shard(3).layer_dtypes) == [9, 10]


def test_a_split_sums_its_shards_up():
    record = sum_up(2, [shard(1, 0.5, max_abs=3.0), shard(3, 0.1, truncated=1)], {}, duplicates=4)
    assert record.rows == 2
    assert record.texts == 2
    assert record.tokens == 4
    assert record.truncated == 1
    assert record.max_abs == 3.0
    assert record.duplicates == 4
    assert record.cosine_error == {"mean": pytest.approx(0.2), "max": 1.0}


def test_shards_without_an_error_do_not_count_for_it():
    assert sum_up(1, [shard(5), shard(2, 0.25)], {}).cosine_error == {"mean": 0.25, "max": 0.5}
    assert sum_up(1, [shard(5)], {}).cosine_error is None
    assert sum_up(0, [], {}).max_abs == 0.0
    # Empty texts alone: no token, and no division by zero.
    assert sum_up(1, [shard(0, 0.0)], {}).cosine_error == {"mean": 0.0, "max": 0.0}


def test_absent_fields_are_not_in_the_bytes_of_a_record():
    assert "cosine_error" not in plain_record(shard(3))
    assert "cosine_error" in plain_record(shard(3, 0.5))
    split = plain_record(sum_up(1, [shard(3)], {}))
    assert not {"cosine_error", "duplicates", "appended"} & {*split, *split["shards"][0]}


def test_a_record_is_read_as_it_was_written(store):
    expected = read_manifest(store).splits["train"].shards[1]
    assert read_record(store / "train", 1, (0, 2)) == expected
    assert (store / "train/shard-00001/record.json").read_bytes() == record_bytes(expected)
    assert read_record(store / "train", 7, (0, 2)) is None


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "record.json").write_text("{"),
        lambda folder: (folder / "record.json").write_text('{"texts": 3}'),
        lambda folder: (folder / "record.json").unlink(),
        lambda folder: (folder / "lengths.npy").unlink(),
        lambda folder: (folder / "lengths.npy").write_bytes(b"short"),
    ],
)
def test_a_damaged_shard_is_refused_with_what_to_do_about_it(store, damage, finished):
    damage(store / "train" / "shard-00001")
    fix = "glot store verify"
    if not finished:
        (store / "manifest.json").unlink()
        fix = r"Delete \S*shard-00001 and run the same command again"
    with pytest.raises(UsageError, match=fix):
        read_record(store / "train", 1, (0, 2))


def test_a_shard_of_other_layers_is_refused(store):
    with pytest.raises(UsageError, match="must list the recipe's layers"):
        read_record(store / "train", 1, (0,))


@pytest.mark.parametrize(
    "change",
    [
        lambda split: split.arrays.pop("roles.npy"),
        lambda split: split.arrays.update({"../x": {"sha256": "0" * 64, "bytes": 1}}),
        lambda split: split.arrays["roles.npy"].update(sha256="zz"),
        lambda split: split.arrays["roles.npy"].update(bytes="1"),
        lambda split: split.arrays["roles.npy"].update(path="/etc/passwd"),
        lambda split: split.shards[0].files.pop("lengths.npy"),
        lambda split: split.shards[0].files["lengths.npy"].update(sha256="zz"),
    ],
)
def test_a_split_that_lists_other_files_is_refused(store, change):
    split = read_manifest(store).splits["train"]
    check_split(split, (0, 2))
    change(split)
    with pytest.raises(ValueError, match=r"row arrays|file record|files of shard 0"):
        check_split(split, (0, 2))

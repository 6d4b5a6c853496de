"""A finished store in numbers."""

import json

from glot_jax.store import HiddenStore, describe


def test_describe_counts(store):
    found = describe(store)
    split = HiddenStore(store)["train"]
    assert found["splits"]["train"] == {
        "rows": 40,
        "texts": 40,
        "tokens": split.tokens,
        "truncated": 0,
        "empty": 0,
        "shards": 3,
        "labels": True,
        "dtypes": ["float16"],
        "max_abs": found["splits"]["train"]["max_abs"],
        "bytes": found["splits"]["train"]["bytes"],
    }
    on_disk = sum(path.stat().st_size for path in store.rglob("*.npy"))
    assert found["bytes"] == on_disk
    assert found["rows"] == 52
    json.dumps(found)

"""A finished store in numbers."""

import json

from glot_jax.store import HiddenStore, describe


def test_describe_counts(store):
    card = describe(store)
    split = HiddenStore(store)["train"]
    assert card["splits"]["train"] == {
        "rows": 40,
        "texts": 40,
        "tokens": split.tokens,
        "truncated": 0,
        "empty": 0,
        "shards": 3,
        "labels": True,
        "dtypes": ["float16"],
        "max_abs": card["splits"]["train"]["max_abs"],
        "bytes": card["splits"]["train"]["bytes"],
    }
    on_disk = sum(path.stat().st_size for path in store.rglob("*.npy"))
    assert card["bytes"] == on_disk
    assert card["rows"] == 52
    json.dumps(card)

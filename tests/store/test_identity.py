"""Hashes of JSON values, on which every content id rests."""

import pytest

from glot_jax.store.identity import canonical, canonical_sha256


def test_canonical_json_is_pinned():
    # Changing these bytes changes every content id there is: only with a new schema version.
    assert canonical({"b": [1, 2.5, None], "a": "ü"}) == b'{"a":"\\u00fc","b":[1,2.5,null]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_equal_values_have_equal_hashes_whatever_the_order_of_their_keys():
    assert canonical_sha256({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_sha256(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert canonical_sha256({"a": [1, 2]}) != canonical_sha256({"a": [2, 1]})

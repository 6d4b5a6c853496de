"""Hashes of plain JSON values: equal values have equal hashes, whoever computes them."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> bytes:
    """JSON bytes that depend on the value alone: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON does not have.
    """
    # Every content id rests on these bytes: they change with the schema version only.
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    )
    return text.encode()


def canonical_sha256(value: object) -> str:
    """The sha256 of `canonical(value)`, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()

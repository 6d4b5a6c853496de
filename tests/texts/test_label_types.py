"""The type of a label by its spelling."""

from __future__ import annotations

from glot_jax.texts.label_types import kind_of, spelled


def test_spellings_have_types():
    assert [kind_of(spelled(text)) for text in ("1", "1.5", "nan", "NA", "x", "true", "")] == [
        "int",
        "float",
        "null",
        "absent",
        "str",
        "truth",
        "missing",
    ]

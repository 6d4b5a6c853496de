"""The card of an exported folder says what was trained, on what, how well."""

from __future__ import annotations

import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from glot_jax.export import export_sentence_transformers

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")


def test_the_card_says_what_it_is(place, exported):
    card = (place / "st-gpt2" / "README.md").read_text()
    for said in (
        "GLOT pooling of gpt2, trained on custom",
        "trust_remote_code=True",
        "text-embeddings-inference and vLLM cannot host this head",
        "| validation | 0.75 | 2 |",
        "| majority | 0.6 |  |",
        "selected on `validation`",
        "1,234 parameters",
        f"store | `{'5' * 64}`",
        exported["gpt2"]["run"],
        exported["gpt2"]["weights"],
        f"sha256 `{exported['gpt2']['backbone']['sha256']}`",
        "the backbone's own licence",
        "cut to 24 tokens",
        "[0, 1, 2] of 0 .. 2",
    ):
        assert said in card, said
    assert "base_model" not in card  # a folder's name is no name on the Hub
    last = export_sentence_transformers(
        place / "run-gpt2", place / "last", backbone=str(place / "gpt2"), checkpoint="last"
    )
    assert last["weights"] == exported["gpt2"]["weights"]  # there is one checkpoint
    assert "No split selected" in (place / "last" / "README.md").read_text()
    assert "| validation | 0.5 | 3 |" in (place / "last" / "README.md").read_text()

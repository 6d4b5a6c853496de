"""What a card's result holds in cards.json."""

from __future__ import annotations

from glot_jax.experiments.card_results import CardResult, CardRun

RUN = CardRun("cola", "mean", 1, 2e-4, {"test": {"mcc": 0.5}}, "runs/cola/mean", 10, 1.5)


def test_a_card_has_runs_or_records_or_neither():
    quoted = CardResult("T", ("line",), "", (), None, None)
    assert quoted.to_json() == {"title": "T", "missing": ["line"], "note": "", "tasks": []}
    trained = CardResult("T", (), "", ("cola",), [RUN], None).to_json()
    assert trained["runs"][0]["scores"] == {"test": {"mcc": 0.5}}
    assert "records" not in trained
    measured = CardResult("T", (), "", (), None, [{"length": 8}]).to_json()
    assert measured["records"] == [{"length": 8}]

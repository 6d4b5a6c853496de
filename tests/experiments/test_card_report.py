"""The words of a reproduction's report."""

from __future__ import annotations

import pytest

from glot_jax.experiments.card_report import card_names


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["table4"], "Table 4"),
        (["table15", "table8"], "Tables 15, 8"),
        (["figure5", "table4"], "Table 4, Figure 5"),
        (["figure3", "figure4"], "Figures 3, 4"),
    ],
)
def test_cards_are_named_as_in_the_paper(names, text):
    assert card_names(names) == text

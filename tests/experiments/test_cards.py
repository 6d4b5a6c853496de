"""The cards of the paper: one for each table and figure, with rows that it has."""

from __future__ import annotations

from glot_jax.experiments.cards import CARDS
from glot_jax.reporting import paper
from glot_jax.texts import TASKS


def test_every_table_and_figure_has_a_card():
    assert set(CARDS) == {
        *(f"table{number}" for number in range(1, 18)),
        "figure3",
        "figure4",
        "figure5",
    }
    for name, card in CARDS.items():
        assert set(card.tasks) <= set(TASKS), name
        assert (card.kind == "runs") == bool(card.variants), name
        assert card.kind != "quoted" or card.lacks, name
        labels = [variant.label for variant in card.variants]
        assert len(set(labels)) == len(labels)
    for name in ("table1", "table4", "table8", "table11", "table15"):
        printed = {row for rows in paper.TABLES[name].values() for row in rows}
        # The paper calls its own rows gat, tau 0.6 or simply glot.
        assert printed <= {variant.label for variant in CARDS[name].variants} | {
            "glot",
            "glot, gat",
            "glot, tau 0.6",
        }

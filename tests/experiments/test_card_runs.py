"""The runs of cards: what a variant changes, and which folder it has."""

from __future__ import annotations

import pytest
from support.paper_cards import settings

from glot_jax.errors import UsageError
from glot_jax.experiments.card_runs import probe_run, train_config
from glot_jax.experiments.cards import CARDS, CardVariant
from glot_jax.training import Workspace


def test_variants_differ_from_the_paper_in_what_they_say(tmp_path):
    config = settings(tmp_path, tmp_path, "table15")
    folders = set()
    for name, card in CARDS.items():
        for variant in card.variants:
            run = train_config(config, "cola", tmp_path / "store", variant, 2e-4, 1)
            for field, value in variant.pooler.items():
                assert getattr(run.pooler, field) == value, name
            for field, value in variant.graph.items():
                assert getattr(run.graph, field) == value, name
            assert run.objective.select_on == "holdout"
            folders.add((run.out, repr(run.pooler), repr(run.graph)))
    # A folder is never asked to hold two settings.
    assert len({folder for folder, _, _ in folders}) == len(folders)


def test_a_folder_tells_what_its_run_reads(tmp_path):
    config = settings(tmp_path, tmp_path, "table1")

    def name(variant: CardVariant) -> str:
        return train_config(config, "cola", tmp_path / "store", variant, 2e-4, 1).out.name

    assert name(CardVariant("mean", {"pooler": "mean"})) == "mean-lr0.0002-e1-holdout-seed1"
    assert name(CardVariant("glot")) == "glot-gat-h8-tau0.6-lr0.0002-e1-holdout-seed1"
    wrong = CardVariant("glot, random edges", graph={"graph": "random"})
    assert name(wrong) == "glot-gat-h8-random-lr0.0002-e1-holdout-seed1"
    prompted = CardVariant("PromptBERT", {"pooler": "cls"}, prompt="promptbert")
    assert name(prompted) == "cls-promptbert-lr0.0002-e1-holdout-seed1"


def test_scores_of_a_probe_that_are_cut_are_explained(tmp_path):
    (tmp_path / "probe.json").write_text('{\n "validation": {"acc')
    with pytest.raises(UsageError, match=r"probe.json must be a whole JSON file; got .*Delete it"):
        probe_run(tmp_path, Workspace())


def test_a_probe_is_reported_on_the_split_that_people_see_first(tmp_path):
    path = tmp_path / "probe.json"
    path.write_text('{"holdout": {"accuracy": 0.1}, "validation": {"accuracy": 0.2}}')
    assert probe_run(tmp_path, Workspace()) == {"accuracy": 0.2}
    path.write_text('{"validation": {"accuracy": 0.2}, "test": {"accuracy": 0.3}}')
    assert probe_run(tmp_path, Workspace()) == {"accuracy": 0.3}

"""A tiny laboratory for the cards of the paper.

Its users belong to the group `reproduce`, so that it is made once.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.paper_cards import rows, settings, write_rows
from support.tiny_backbones import make_backbone

from glot_jax.config.experiments import ReproduceConfig
from glot_jax.experiments.card_results import CardResult
from glot_jax.experiments.reproduce import run_cards


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory) -> Path:
    """tiny, a backbone, and data/cola with 40 and 24 rows."""
    folder = tmp_path_factory.mktemp("reproduce")
    make_backbone("bert", folder / "tiny")
    write_rows(folder / "data" / "cola" / "train.jsonl", rows(40, 0))
    write_rows(folder / "data" / "cola" / "validation.jsonl", rows(24, 1))
    return folder


@pytest.fixture(scope="session")
def done(laboratory, tmp_path_factory) -> tuple[ReproduceConfig, dict[str, CardResult]]:
    """Tables 15 and 8, of which only CoLA has data, and what they returned."""
    out = tmp_path_factory.mktemp("done") / "out"
    config = settings(laboratory, out, "table15", "table8", tasks=("cola",))
    return config, run_cards(config)

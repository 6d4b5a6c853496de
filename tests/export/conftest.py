"""Runs on tiny backbones, and their exported folders.

What needs the extra `export` is imported by the fixtures: without it the tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.extraction_case import make_case, run
from support.tiny_backbones import make_backbone

from glot_jax.batches.token_choice import TokenChoice
from glot_jax.config.train import GraphConfig, TrainConfig
from glot_jax.training import train


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """Runs, their backbones, and a folder exported from each.

    `bert` is extracted and trained; `gpt2` and `llama` have random numbers.
    """
    from support.exported_heads import TAU, glot, make_awkward_llama, make_run

    place = tmp_path_factory.mktemp("export")
    case = make_case(place, {"train": 12, "validation": 6}, max_length=24)
    run(case)
    train(
        TrainConfig(
            store=case.out,
            out=place / "run-bert",
            epochs=1,
            buckets=1,
            pooler=glot(heads=2),
            graph=TAU,
        ),
        quiet=True,
    )
    make_run(
        place / "run-gpt2",
        make_backbone("gpt2", place / "gpt2", pad_token=False),
        glot(gnn="gine", standardise=True),
        GraphConfig(graph="knn", k=3),
        (0, 1, -1),
    )
    make_run(
        place / "run-llama",
        make_awkward_llama(place / "llama"),
        glot(gnn="sage", dtype="bfloat16"),
        GraphConfig(learn_tau=True),
        (1,),
        tokens=TokenChoice(skip_first=1),
        compute_dtype="bfloat16",
    )
    return place


@pytest.fixture(scope="session")
def exported(place) -> dict[str, dict[str, Any]]:
    """What the export of each run returned."""
    from glot_jax.export import export_sentence_transformers

    facts = {}
    for name in ("bert", "gpt2", "llama"):
        facts[name] = export_sentence_transformers(
            place / f"run-{name}", place / f"st-{name}", backbone=str(place / name)
        )
    return facts

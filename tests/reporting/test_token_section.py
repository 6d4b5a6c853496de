"""Figures of single sentences, from the heads of a report's runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.head_runs import run
from support.synthetic_stores import CLASSES, PAIRS, SCORE, make_store

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import PoolerConfig
from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.pages import Figure, Heading, Paragraph
from glot_jax.reporting.results import Result
from glot_jax.reporting.tables import Table
from glot_jax.reporting.token_section import Sentence, norm_section, token_section
from glot_jax.training.evaluation import load_model

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


def sentence() -> Sentence:
    states = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    return Sentence("a b c", ("a", "b", "c"), states)


def results_of(*folders):
    runs, _ = find_runs(folders)
    return [Result.from_comparison(comparison, None, 50) for comparison in compare_runs(runs)]


def test_each_sentence_has_two_figures(folder):
    blocks = token_section(results_of(folder / "runs" / "classes"), [sentence(), sentence()])
    names = [block.name for block in blocks if isinstance(block, Figure)]
    assert names == ["tokens0", "graph0", "tokens1", "graph1"]
    (paragraph,) = (block for block in blocks if isinstance(block, Paragraph))
    # The reference stands for glot, whatever other glots there are.
    assert paragraph.text == ("Heads trained on custom, first seed: glot, tau 0.6; adapool.")


def test_what_each_head_predicts_stands_beside_its_weights(folder):
    results = results_of(folder / "runs" / "classes")
    captions = [
        block.caption
        for block in token_section(results, [sentence()])
        if isinstance(block, Figure) and block.name == "tokens0"
    ]
    (caption,) = captions
    states = sentence().states
    for label in ("glot, tau 0.6", "adapool"):
        (variant,) = [v for v in results[0].comparison.variants if v.label == label]
        model = load_model(variant.runs[0].path)
        batch = jax.tree.map(jnp.asarray, TokenBatch.from_ragged([states], [3]))
        logits = np.asarray(model(batch), np.float64)[0]
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        name = CLASSES.classes[int(shares.argmax())]
        assert f"by {label}: {name} ({shares.max():.0%})" in caption


def test_a_score_is_told_and_a_pair_is_asked_about_two_texts(tmp_path):
    for name, spec in (("score", SCORE), ("pairs", PAIRS)):
        store = make_store(tmp_path / name, spec)
        run(store, tmp_path / "runs" / name / "glot", epochs=1)
        blocks = token_section(results_of(tmp_path / "runs" / name), [sentence()])
        (caption,) = [b.caption for b in blocks if isinstance(b, Figure) and b.name == "tokens0"]
        assert ("Predicted by glot: " in caption) == (name == "score")


def test_without_a_glot_the_section_says_so(folder):
    blocks = token_section(results_of(folder / "runs" / "classes" / "mean"), [sentence()])
    assert [type(block).__name__ for block in blocks] == ["Heading", "Paragraph"]


def test_without_sentences_there_is_no_section(folder):
    assert token_section(results_of(folder / "runs" / "classes" / "mean"), []) == []


def test_norms_are_shown_by_layer_and_position(tmp_path):
    store = make_store(tmp_path / "store", layers=(1, 2), sinks=(0,))
    run(store, tmp_path / "runs" / "mean", layer=2, epochs=1, pooler=PoolerConfig(pooler="mean"))
    results = results_of(tmp_path / "runs")
    heading, table = norm_section(results)
    assert heading == Heading("How long the states are")
    assert isinstance(table, Table)
    assert [row[0].text for row in table.rows] == ["custom, 1", "custom, 2"]
    assert [row[0].bold for row in table.rows] == [False, True]
    bars = table.rows[1][5].text
    assert bars[0] == "█"
    assert set(bars[1:]) <= {"▁", "▂"}
    assert table.rows[1][6].text == "52 at position 0"
    # A store that is gone is no reason for a page to fail.
    store.rename(tmp_path / "moved")
    assert norm_section(results) == []

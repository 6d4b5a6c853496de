"""Figures of single sentences, from the heads of a report's runs."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.pages import Figure, Paragraph
from glot_jax.reporting.results import Result
from glot_jax.reporting.token_section import Sentence, token_section

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
    assert paragraph.text == ("Heads trained on custom, first seed: glot (glot, tau 0.6), adapool.")


def test_without_a_glot_the_section_says_so(folder):
    blocks = token_section(results_of(folder / "runs" / "classes" / "mean"), [sentence()])
    assert [type(block).__name__ for block in blocks] == ["Heading", "Paragraph"]


def test_without_sentences_there_is_no_section(folder):
    assert token_section(results_of(folder / "runs" / "classes" / "mean"), []) == []

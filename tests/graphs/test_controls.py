"""Controls: the same number of edges, or the same degrees, in other places."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx
from support.graph_parts import adjacency_of
from support.head_runs import config as run_config
from support.head_runs import run
from support.synthetic_stores import make_store
from support.token_states import pad, sentences

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.export.torch_head import settings_of
from glot_jax.files import read_json
from glot_jax.graphs.stem import Stem
from glot_jax.training.evaluation import evaluate_run, load_model

LENGTHS = [9, 1, 14, 2, 11]
RULES = {
    "threshold": {"tau": 0.5},
    "knn": {"k": 3},
    "window": {"window": 2},
}


def edges(states: list[np.ndarray], side: str = "right", length: int = 16, **options):
    """Each sentence's own block of the graph."""
    hidden, mask = pad(states, length, side, fill=2.0)
    stem = Stem(hidden.shape[-1], config=GraphConfig(**options), rngs=nnx.Rngs(0))
    whole = np.asarray(jax.jit(lambda *batch: adjacency_of(stem(*batch)))(hidden, mask))
    assert not (whole & ~(mask[:, :, None] & mask[:, None, :])).any()
    return [whole[row][np.ix_(mask[row], mask[row])] for row in range(len(states))]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("rule", RULES)
def test_a_rewired_token_hears_as_many_and_is_heard_by_as_many(rule, seed):
    states = sentences(LENGTHS)
    own = edges(states, graph=rule, **RULES[rule])
    other = edges(states, graph=rule, **RULES[rule], control="rewired", graph_seed=seed)
    for before, after in zip(own, other, strict=True):
        assert np.array_equal(before.sum(1), after.sum(1))
        assert np.array_equal(before.sum(0), after.sum(0))
        assert np.array_equal(np.diag(before), np.diag(after))
        if rule != "knn":
            assert np.array_equal(after, after.T)
    # And to others, wherever there are any.
    assert not np.array_equal(own[2], other[2])


@pytest.mark.parametrize("control", ["random", "rewired"])
@pytest.mark.parametrize("rule", RULES)
def test_a_text_has_the_same_edges_in_every_batch(rule, control):
    states = sentences(LENGTHS)
    options = {"graph": rule, **RULES[rule], "control": control}
    expected = edges(states, **options)
    for side, length in (("left", 16), ("right", 23), ("left", 40)):
        again = edges(states[::-1], side, length, **options)[::-1]
        for first, second in zip(expected, again, strict=True):
            assert np.array_equal(first, second)
    other = edges(states, **options, graph_seed=1)
    assert any(not np.array_equal(*pair) for pair in zip(expected, other, strict=True))


@pytest.mark.parametrize("control", ["random", "rewired"])
def test_edges_are_where_chance_puts_them(control):
    """A ring of 24: an edge of it is one by chance in 2 of 23 cases, over many seeds."""
    length = 24
    (state,) = sentences([length])
    kept = []
    for seed in range(60):
        options = {"graph": "window", "window": 1, "control": control, "graph_seed": seed}
        (ring,) = edges([state], length=length, graph="window", window=1)
        (other,) = edges([state], length=length, **options)
        between = np.triu(ring, 1)
        kept.append(other[between].mean())
    # Mean and deviation of a share of 23 edges, each there with probability 2/24 or so.
    chance = 2 / 24
    assert np.mean(kept) == pytest.approx(chance, abs=5 * np.sqrt(chance / 23 / 60))


@pytest.mark.parametrize("rule", RULES)
def test_random_edges_are_as_many_in_each_text_on_average(rule):
    states = sentences([20] * 40)
    options = {"graph": rule, **RULES[rule]}
    own = edges(states, length=20, **options)
    other = edges(states, length=20, **options, control="random")
    assert any(not np.array_equal(*pair) for pair in zip(own, other, strict=True))
    for before, after in zip(own, other, strict=True):
        assert np.array_equal(np.diag(before), np.diag(after))
        if rule != "knn":
            assert np.array_equal(after, after.T)
    counts = np.array([[block.sum() for block in blocks] for blocks in (own, other)], float)
    # Of a binomial with as many trials as pairs, twice as many deviations in a symmetric graph.
    deviation = np.sqrt(2 * counts[0].sum())
    assert abs(counts[0].sum() - counts[1].sum()) < 4 * deviation


def test_what_has_no_other_place_stays():
    states = sentences([5, 8])
    everything = {"graph": "window", "window": 20}
    for before, after in zip(
        edges(states, **everything), edges(states, **everything, control="rewired"), strict=True
    ):
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    "options",
    [
        {"graph": "self", "control": "rewired"},
        {"graph": "random", "control": "random"},
        {"control": "random", "backend": "sparse"},
        {"control": "random", "backend": "blockwise"},
        {"control": "random", "learn_tau": True},
    ],
)
def test_what_cannot_be_a_control(options):
    with pytest.raises(UsageError, match="--control puts the edges of a rule elsewhere"):
        GraphConfig(**options)


def test_a_run_on_a_control_is_told_by_its_config_and_judged_again_to_its_score(tmp_path):
    store = make_store(tmp_path / "store")
    graph = GraphConfig(tau=0.1, control="rewired")
    summary = run(store, tmp_path / "run", epochs=1, graph=graph)
    values = read_json(tmp_path / "run" / "config.json")["config"]["graph"]
    assert values["control"] == "rewired"
    again = evaluate_run(tmp_path / "run", quiet=True)
    assert again["validation"]["accuracy"] == summary["validation"]["best"]["accuracy"]
    plain = run_config(store, tmp_path / "plain")
    run(store, tmp_path / "plain", epochs=1)
    # Runs without one keep the bytes of versions that knew none.
    assert "control" not in read_json(tmp_path / "plain" / "config.json")["config"]["graph"]
    assert plain.graph.control == "none"


def test_a_control_is_not_exported(tmp_path):
    store = make_store(tmp_path / "store")
    run(store, tmp_path / "run", epochs=1, graph=GraphConfig(tau=0.1, control="random"))
    with pytest.raises(UsageError, match="got --control random"):
        settings_of(load_model(tmp_path / "run"), PoolerConfig())

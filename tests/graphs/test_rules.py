"""kNN, window and random edges against brute force in numpy.

And what makes the random graph a control.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from support.graph_parts import adjacency_of
from support.token_states import pad, sentences

from glot_jax.graphs import token_graph
from glot_jax.graphs.hashing import hash_words, with_probability

LENGTHS = [6, 1, 9, 2]


def cosine64(states: np.ndarray) -> np.ndarray:
    unit = states.astype(np.float64) / np.linalg.norm(
        states.astype(np.float64), axis=1, keepdims=True
    )
    return unit @ unit.T


def adjacency(states: list[np.ndarray], side: str = "right", **options) -> list[np.ndarray]:
    """Each sentence's own block of the graph."""
    hidden, mask = pad(states, 11, side, fill=2.0)
    found = np.asarray(adjacency_of(token_graph(hidden, mask, **options)))
    assert not (found & ~(mask[:, :, None] & mask[:, None, :])).any()
    return [found[row][np.ix_(mask[row], mask[row])] for row in range(len(states))]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("k", [1, 3, 11])
def test_knn_takes_the_most_similar_tokens_and_oneself(k, side):
    states = sentences(LENGTHS)
    for of, found in zip(states, adjacency(states, side, graph="knn", k=k), strict=True):
        similarity = cosine64(of)
        np.fill_diagonal(similarity, 2)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        expected = np.zeros_like(found)
        np.put_along_axis(expected, nearest, True, axis=1)
        assert np.array_equal(found, expected)


def test_knn_is_not_made_symmetric():
    """A token between two others is near both, but the far ones prefer their neighbours."""
    angles = np.deg2rad([0, 10, 12, 60])
    line = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    (found,) = adjacency([line], graph="knn", k=2)
    assert found[0].tolist() == [True, True, False, False]
    assert found[3].tolist() == [False, False, True, True]
    assert not found[2, 3]


def test_knn_gives_ties_to_the_lower_rank():
    same = np.ones((5, 4), np.float32)
    for side in ("left", "right"):
        (found,) = adjacency([same], side, graph="knn", k=3)
        assert found.astype(int).tolist() == [
            [1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 0, 1, 0],
            [1, 1, 0, 0, 1],
        ]


def test_knn_leaves_zero_vectors_alone():
    states = sentences([5])[0]
    states[1] = 0
    (found,) = adjacency([states], graph="knn", k=5)
    real = np.arange(5) != 1
    assert np.array_equal(found, real[:, None] & real[None, :])


@pytest.mark.parametrize("window", [0, 2, 50])
def test_window_counts_real_tokens(window):
    """Padding in the middle of a text takes no room."""
    hidden = np.random.default_rng(0).normal(size=(1, 8, 4)).astype(np.float32)
    mask = np.array([[True, False, True, True, False, False, True, True]])
    graph = token_graph(hidden, mask, graph="window", window=window)
    found = np.asarray(adjacency_of(graph)[0])[np.ix_(mask[0], mask[0])]
    rank = np.arange(5)
    assert np.array_equal(found, np.abs(rank[:, None] - rank) <= window)


def test_random_edges_are_symmetric_keep_loops_and_follow_the_seed():
    states = sentences([9, 9, 9])
    one, again, other = (
        adjacency(states, graph="random", tau=0.5, graph_seed=seed) for seed in (0, 0, 1)
    )
    for found in one:
        assert np.array_equal(found, found.T)
        assert found.diagonal().all()
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0], one[1])


def test_random_edges_hang_on_the_text_not_on_its_place():
    states = sentences([7, 4, 9])
    expected = adjacency(states, graph="random", tau=0.5)
    for order, side in [([2, 0, 1], "right"), ([1, 2, 0], "left")]:
        found = adjacency([states[row] for row in order], side, graph="random", tau=0.5)
        assert all(np.array_equal(found[place], expected[row]) for place, row in enumerate(order))
    half = [of.astype(np.float16) for of in states]
    single = [of.astype(np.float32) for of in half]
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            adjacency(half, graph="random"), adjacency(single, graph="random"), strict=True
        )
    )


@pytest.mark.parametrize("tau", [0.3, 0.5, 0.7])
def test_random_edges_are_as_many_as_those_of_the_threshold(tau):
    states = sentences([11] * 60, seed=3)
    off = ~np.eye(11, dtype=bool)
    wanted = np.array([of[off].mean() for of in adjacency(states, tau=tau)])
    found = np.array([of[off].mean() for of in adjacency(states, graph="random", tau=tau)])
    assert 0.05 < wanted.mean() < 0.95
    # 55 independent pairs a text: the mean over 60 texts has a deviation of at most 0.5 /
    # sqrt(3300).
    assert abs(found.mean() - wanted.mean()) < 4 * 0.5 / np.sqrt(60 * 55)
    assert np.corrcoef(found, wanted)[0, 1] > 0.5


def test_random_edges_at_the_ends_of_density():
    states = sentences([6, 6])
    assert all(found.all() for found in adjacency(states, graph="random", tau=-1.0))
    assert all(
        np.array_equal(found, np.eye(6)) for found in adjacency(states, graph="random", tau=1.0)
    )


def test_hashes_are_uniform_and_sensitive_to_every_word():
    i, j = np.meshgrid(np.arange(400), np.arange(400))
    hashed = np.asarray(hash_words(7, jnp.asarray(i), jnp.asarray(j), 0))
    counts = np.bincount((hashed >> 28).ravel(), minlength=16)
    assert np.abs(counts - hashed.size / 16).max() < 5 * np.sqrt(hashed.size / 16)
    for words in [(8, i, j, 0), (7, j, i, 0), (7, i, j, 1), (7, i, j)]:
        other = np.asarray(hash_words(*(jnp.asarray(word) for word in words)))
        # On average half of the 32 bits differ (a word swapped with itself, on the diagonal, is
        # left out).
        bits = np.unpackbits((hashed ^ other)[i != j].view(np.uint8)).mean()
        assert abs(bits - 0.5) < 0.01


def test_large_numbers_are_numbers():
    """A seed is any whole number, a window may exceed every text."""
    states = sentences([6])
    wide, seeds = (
        adjacency(states, graph="window", window=2**40),
        [
            adjacency(states, graph="random", tau=0.5, graph_seed=s)
            for s in (5, 2**32 + 5, 3 * 10**9)
        ],
    )
    assert wide[0].all()
    assert np.array_equal(seeds[0], seeds[1])
    assert seeds[2][0].diagonal().all()


def test_probability_zero_is_never_and_one_is_always():
    hashed = jnp.asarray([0, 1, 2**31, 2**32 - 1], jnp.uint32)
    assert not with_probability(0.0, hashed).any()
    assert with_probability(1.0, hashed).all()
    assert with_probability(0.5, hashed).tolist() == [True, True, False, False]

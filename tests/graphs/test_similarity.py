"""The cosine and the rules that read it, against numpy in float64."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graph_parts import adjacency_of
from support.token_states import pad, sentences
from support.typed import present

from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph
from glot_jax.graphs.similarity import scale_of, similarity, tokens_of


def cosine64(states: np.ndarray) -> np.ndarray:
    states = states.astype(np.float64)
    unit = states / np.linalg.norm(states, axis=-1, keepdims=True)
    return unit @ np.swapaxes(unit, -1, -2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), exponent=st.integers(-3, 3))
def test_cosine_is_that_of_the_stored_states(dtype, seed, exponent):
    """16-bit states are not rounded any further.

    The error is that of a float32 sum, not of their dtype.
    """
    stored = jnp.asarray(
        np.random.default_rng(seed).normal(size=(1, 5, 64)) * 10.0**exponent, dtype
    )
    of = tokens_of(stored, jnp.ones(stored.shape[:-1], bool))
    np.testing.assert_allclose(similarity(of, of)[0], cosine64(np.asarray(stored))[0], atol=2e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e18, 3e37])
def test_cosine_does_not_depend_on_the_norm(scale):
    states = np.random.default_rng(0).normal(size=(1, 4, 16)).astype(np.float32)
    scaled = jnp.asarray(states * np.float32(scale))
    of = tokens_of(scaled, jnp.ones(scaled.shape[:-1], bool))
    np.testing.assert_allclose(similarity(of, of), cosine64(states), atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
@pytest.mark.parametrize("spread", [(0, 0), (-12, 12), (-60, 60), (0, 70)])
def test_edges_are_those_of_scaled_states_whatever_the_norms(spread, backend, dtype):
    """Ordinary norms are left as they are, others scaled.

    Within a batch as well as apart; the sparse backend always scales.
    """
    draw = np.random.default_rng(0)
    states = np.asarray(draw.normal(size=(3, 9, 16)) + 1, np.float32)
    states *= 2.0 ** draw.integers(spread[0], spread[1] + 1, (3, 9, 1)) if dtype != "float16" else 1
    states[1, 4] = 0 if spread[1] else 1  # a zero vector is no ordinary one either
    states[2, 7:] = np.nan  # padding may hold anything
    hidden, mask = jnp.asarray(states, dtype), np.ones((3, 9), bool)
    mask[2, 7:] = False
    for rule in ("threshold", "knn", "random", "window"):
        edges = [
            token_graph(hidden, mask, graph=rule, k=3, tau=0.5, backend=name)
            for name in (backend, "sparse")
        ]
        degrees = [of.to_padded(of.degree()) for of in edges]
        np.testing.assert_array_equal(degrees[0], degrees[1])
        assert adjacency_of(edges[0]).any()


def test_ordinary_states_are_not_copied_to_be_linked():
    """The dense step on a CPU writes nothing of the states' size.

    Unless a norm is out of the ordinary.
    """
    hidden, mask = jnp.ones((2, 8, 4096)), jnp.ones((2, 8), bool)
    text = present(
        jax.jit(lambda hidden, mask: adjacency_of(token_graph(hidden, mask)))
        .lower(hidden, mask)
        .compile()
        .as_text()
    )
    branches = re.search(r"true_computation=%?([\w.-]+), false_computation=%?([\w.-]+)", text)
    if branches is None:
        found = re.search(r"branch_computations=\{%?([\w.-]+), %?([\w.-]+)\}", text)
        assert found is not None
        scaled, plain = found.groups()
    else:
        plain, scaled = branches.groups()
    bodies = {
        name: present(re.search(rf"%?{re.escape(name)} .*?\n}}", text, re.S)).group()
        for name in (scaled, plain)
    }
    writes = {
        name: len(re.findall(r"= f32\[2,8,4096\]\S* (?:fusion|multiply|divide)", body))
        for name, body in bodies.items()
    }
    assert writes[plain] == 0
    assert writes[scaled] > 0


def test_scaling_is_a_power_of_two_that_reaches_the_largest_entry():
    values = jnp.asarray([[0.0, 0.0], [3.0, -5.0], [1e-20, 0.0], [-1e30, 2.0]])
    scale = np.asarray(scale_of(values))[:, 0]
    assert scale[0] == 1
    mantissa, _ = np.frexp(scale)
    assert np.all(mantissa == 0.5)
    assert np.all(
        (np.abs(values[1:]).max(1) / scale[1:] <= 1)
        & (np.abs(values[1:]).max(1) / scale[1:] >= 0.5)
    )


@pytest.mark.parametrize("tau", [-1.0, -0.2, 0.5, 0.99])
def test_threshold_is_strict_and_keeps_the_diagonal(tau):
    states = sentences([6, 4], 12)
    hidden, mask = pad(states)
    graph = token_graph(hidden, mask, tau=tau)
    for row, of in enumerate(states):
        expected = cosine64(of) > tau
        np.fill_diagonal(expected, True)
        if tau == -1.0:
            expected[:] = True
        found = np.zeros((6, 6), bool)
        found[: len(of), : len(of)] = expected
        assert np.array_equal(adjacency_of(graph)[row], found)


def test_at_tau_one_there_is_no_edge_not_even_by_rounding():
    same = np.repeat(np.random.default_rng(0).normal(size=(1, 1, 33)), 5, axis=1).astype(np.float32)
    assert not adjacency_of(token_graph(same, np.ones((1, 5), bool), tau=1.0)).any()
    assert adjacency_of(token_graph(same, np.ones((1, 5), bool), tau=0.999)).all()


@pytest.mark.parametrize("tau", [-0.5, 0.5])
def test_a_zero_vector_has_no_edge_at_all(tau):
    hidden = np.random.default_rng(0).normal(size=(1, 4, 8)).astype(np.float32)
    hidden[0, 2] = 0
    adjacency = np.asarray(adjacency_of(token_graph(hidden, np.ones((1, 4), bool), tau=tau))[0])
    assert not adjacency[2].any()
    assert not adjacency[:, 2].any()
    assert adjacency[[0, 1, 3], [0, 1, 3]].all()


@pytest.mark.parametrize(
    ("graph", "expected"), [("self", np.eye(3)), ("complete", np.ones((3, 3)))]
)
def test_control_rules(graph, expected):
    hidden, mask = pad(sentences([3, 2], 12), 4)
    adjacency = adjacency_of(token_graph(hidden, mask, graph=graph))
    assert np.array_equal(adjacency[0, :3, :3], expected)
    assert np.array_equal(adjacency[1, :2, :2], expected[:2, :2])
    assert adjacency.sum() == expected.sum() + expected[:2, :2].sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 1.5}, r"--tau must be a cosine in \[-1, 1\]; got 1.5"),
        (
            {"backend": "dens"},
            "unknown graph backend .* 'dens'. Known: auto, blockwise, dense, sparse",
        ),
        (
            {"graph": "tree"},
            "unknown graph rule .* 'tree'. Known: complete, knn, random, self, threshold, window",
        ),
        (
            {"graph": "knn", "k": 4},
            r"--k must be at most the longest padded text, 3 tokens; got 4. Choose 1 to 3",
        ),
        ({"graph": "knn", "k": 0}, "--k must be at least 1; got 0"),
        ({"graph": "window", "window": -1}, "--window must be at least 0; got -1"),
        ({"mask": np.ones((2, 3))}, "boolean mask"),
        ({"mask": np.ones((2, 4), bool)}, r"hidden \(2, 3, 4\), mask \(2, 4\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        token_graph(
            **{"hidden": np.ones((2, 3, 4), np.float32), "mask": np.ones((2, 3), bool), **arguments}
        )

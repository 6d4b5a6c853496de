"""What a kill in the middle of a shard costs: the passes since the last file, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.extraction_case import make_case, run, tree

from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.storage_dtypes import States
from glot_jax.config.location import require_folder
from glot_jax.extraction import finished_passes
from glot_jax.extraction.finished_passes import SECONDS, FinishedPasses
from glot_jax.store.layout import lock_folder, passes_folder
from glot_jax.store.recipe import Recipe

RECIPE = Recipe.partial(dim=4, layers=(1,))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def passes_of(store, clock=None, **changes) -> FinishedPasses:
    settings = {"split": "train", "index": 0, "recipe": RECIPE, "dtype": "float16", **changes}
    return FinishedPasses(store, **settings, clock=clock or Clock())


def texts(number: int) -> list[np.ndarray]:
    return [np.arange(number + 1), np.arange(3) + 10]


def states(number: int) -> States:
    rng = np.random.default_rng(number)
    array = rng.normal(size=(number + 4, 4)).astype(np.float16)
    return States({1: array}, float(number), {1: array[:, 0]}, np.full(2, 0.5, np.float32))


def test_a_pass_comes_back_as_it_was(tmp_path):
    clock = Clock()
    passes = passes_of(tmp_path / "store", clock)
    for number in range(5):
        clock.now += SECONDS / 2
        passes.add(number, texts(number), states(number))
    # Two at a time are on the disk; the last one was still waiting.
    again = passes_of(tmp_path / "store")
    assert again.found == 4
    for number in range(4):
        before = again.take(number, texts(number))
        assert before is not None
        np.testing.assert_array_equal(before.layers[1], states(number).layers[1])
        np.testing.assert_array_equal(before.scales[1], states(number).scales[1])
        np.testing.assert_array_equal(before.cosine_errors, states(number).cosine_errors)
        assert before.peak == number
    assert again.take(4, texts(4)) is None
    again.remove()
    assert passes_of(tmp_path / "store").found == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"split": "validation"},
        {"index": 1},
        {"recipe": RECIPE.extended(dim=5)},
        {"dtype": "bfloat16"},
    ],
)
def test_passes_of_other_states_are_not_taken(tmp_path, changes):
    clock = Clock()
    passes = passes_of(tmp_path / "store", clock)
    clock.now = SECONDS
    passes.add(0, texts(0), states(0))
    assert passes_of(tmp_path / "store", **changes).found == 0


def test_other_texts_are_computed_anew(tmp_path):
    clock = Clock()
    passes = passes_of(tmp_path / "store", clock)
    clock.now = SECONDS
    passes.add(0, texts(0), states(0))
    again = passes_of(tmp_path / "store")
    assert again.take(0, texts(1)) is None
    # The same tokens, cut into other texts.
    assert again.take(0, [np.concatenate(texts(0))]) is None
    path = next(passes_folder(tmp_path / "store").rglob("*.npz"))
    path.write_bytes(path.read_bytes()[:-40])
    assert passes_of(tmp_path / "store").take(0, texts(0)) is None


def test_a_fast_model_writes_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(finished_passes, "_MOST_BYTES", 100)
    clock = Clock()
    passes = passes_of(tmp_path / "store", clock)
    for number in range(20):
        clock.now += 0.1
        passes.add(number, texts(number), states(number))
    assert not passes_folder(tmp_path / "store").exists()
    # Once it has turned out to be slow it writes as soon as memory is full.
    clock.now += SECONDS
    passes.add(20, texts(20), states(20))
    passes.add(21, texts(21), states(21))
    assert passes_of(tmp_path / "store").found == 2


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_an_extraction_goes_on_within_a_shard(tmp_path, monkeypatch, dtype):
    config = make_case(
        tmp_path, {"train": 40}, shard_tokens=10_000, tokens_per_batch=40, storage_dtype=dtype
    )
    ran: list[int] = []
    forward = Backbone.states

    def counted(self, ids, dtype="float32"):
        if len(ran) == stop:
            raise KeyboardInterrupt
        ran.append(len(ids))
        return forward(self, ids, dtype)

    monkeypatch.setattr(Backbone, "states", counted)
    stop = 1_000
    run(config)
    whole = tree(config.out)
    passes = len(ran)
    assert passes > 4
    # Every pass is on the disk at once.
    monkeypatch.setattr(finished_passes, "SECONDS", 0.0)
    other = dataclasses.replace(config, out=tmp_path / "other")
    ran.clear()
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        run(other)
    ran.clear()
    stop = 1_000
    said = run(other)
    assert "shard-00000 goes on behind 3 finished passes" in said
    assert len(ran) == passes - 3
    assert tree(other.out) == whole
    assert not lock_folder(require_folder(other.out)).exists()

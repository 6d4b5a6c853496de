"""What a kill in the middle of a shard costs: the passes since the last file, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.extraction_case import make_case, run, tree

from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.storage_dtypes import States
from glot_jax.config.location import require_folder
from glot_jax.extraction import finished_passes, shard
from glot_jax.extraction.finished_passes import SECONDS, FinishedPasses
from glot_jax.store import HiddenStore
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


def test_what_decided_a_dtype_counts_for_the_same_pass_alone(tmp_path):
    passes_of(tmp_path / "store", dtype="bfloat16").decide(3, texts(3), 1e6)
    again = passes_of(tmp_path / "store", dtype="bfloat16")
    assert again.found == 0
    assert again.decided_peak(texts) == 1e6
    # Other texts, none at all, and other states.
    assert again.decided_peak(lambda number: texts(number + 1)) is None
    assert again.decided_peak(lambda _: []) is None
    assert passes_of(tmp_path / "store").decided_peak(texts) is None
    other = passes_of(tmp_path / "store", dtype="bfloat16", recipe=RECIPE.extended(dim=5))
    assert other.decided_peak(texts) is None
    again.remove()
    assert again.decided_peak(texts) is None


@pytest.mark.parametrize("killed", [0, 1, 3])
def test_a_shard_that_became_bfloat16_goes_on_as_bfloat16(tmp_path, monkeypatch, killed):
    config = make_case(
        tmp_path, {"train": 40}, shard_tokens=10_000, tokens_per_batch=40, storage_dtype="auto"
    )
    exact = dataclasses.replace(config, out=tmp_path / "exact", storage_dtype="float32")
    run(exact)
    largest = HiddenStore(exact.out).manifest.splits["train"].max_abs
    monkeypatch.setattr(
        shard,
        "largest_value",
        lambda dtype: largest * 0.999 if dtype == "float16" else np.inf,
    )
    ran: list[str] = []
    forward = Backbone.states

    def counted(self, ids, dtype="float32"):
        if dtype == "bfloat16" and ran.count(dtype) == stop:
            raise KeyboardInterrupt
        ran.append(dtype)
        return forward(self, ids, dtype)

    monkeypatch.setattr(Backbone, "states", counted)
    stop = 1_000
    said = run(config)
    assert "shard-00000 is stored as bfloat16" in said
    whole = tree(config.out)
    passes = ran.count("bfloat16")
    assert passes > 4
    monkeypatch.setattr(finished_passes, "SECONDS", 0.0)
    other = dataclasses.replace(config, out=tmp_path / "other")
    ran.clear()
    stop = killed
    with pytest.raises(KeyboardInterrupt):
        run(other)
    assert "float16" in ran
    ran.clear()
    stop = 1_000
    said = run(other)
    assert "shard-00000 is stored as bfloat16" in said
    assert ran == ["bfloat16"] * (passes - killed)
    assert tree(other.out) == whole
    assert not lock_folder(require_folder(other.out)).exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int4"])
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

"""What a store is made from: its JSON values never change, and what they decide is compared."""

import json
import tarfile
from pathlib import Path

import pytest
from support.synthetic_stores import make_store

import glot_jax.store
from glot_jax.errors import UsageError
from glot_jax.store import read_manifest
from glot_jax.store.identity import canonical
from glot_jax.store.layout import MANIFEST
from glot_jax.store.manifest import write_manifest
from glot_jax.store.recipe import PendingAppend, Recipe, explain_mismatch, read_work

COMPAT = Path(__file__).parent.parent / "compat" / "written-by-0.1.0.tar.xz"
BACKBONE = {"name": "minilm", "sha256": "a" * 64, "revision": None}
FRESH = Recipe(
    backbone=BACKBONE,
    tokenizer="c" * 64,
    model_type="bert",
    kind="encoder",
    num_layers=6,
    dim=384,
    max_length=128,
    layers=(0, 6),
    states={"0": "hidden_states[0]", "6": "last_hidden_state"},
    compute_dtype="float32",
    special_tokens={"added": ["[CLS]", "[SEP]"]},
    shard_tokens=131_072,
    task="diagnostic",
    text_columns=("text",),
    label_column="label",
    sample_seed=42,
    protocol="controlled",
    ratio=0.5,
    diagnostic_rows=(4, 2, 2),
    position=0.0,
)


def test_manifests_of_older_versions_keep_their_bytes(tmp_path):
    with tarfile.open(COMPAT) as archive:
        archive.extractall(tmp_path, filter="data")
    stores = [path.parent for path in tmp_path.rglob(MANIFEST)]
    assert len(stores) >= 3
    for store in stores:
        before = (store / MANIFEST).read_bytes()
        values = json.loads(before)["recipe"]
        recipe = Recipe.from_json(values)
        assert recipe.more == {}
        assert list(recipe.to_json()) == list(values)
        write_manifest(store, read_manifest(store))
        assert (store / MANIFEST).read_bytes() == before


def test_the_manifest_of_a_fresh_store_keeps_its_bytes(tmp_path):
    store = make_store(tmp_path / "store")
    before = (store / MANIFEST).read_bytes()
    write_manifest(store, read_manifest(store))
    assert (store / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"dim": 3},
        {"prompt": None, "label_column": None},
        {"field_of_a_newer_version": {"a": [1, None]}, "absent": ["dim"], "more": 3},
        {"deterministic": None, "ratio": 1, "backbone": None, "adapter": None},
        FRESH.to_json(),
        {name: value for name, value in FRESH.to_json().items() if name != "prompt"},
    ],
    ids=["empty", "one", "null", "newer", "odd", "fresh", "without prompt"],
)
def test_a_recipe_gives_back_the_values_it_was_read_from(values):
    """Absent fields stay absent, and unknown ones survive: the content of a store depends on it."""
    recipe = Recipe.from_json(values)
    assert canonical(recipe.to_json()) == canonical(values)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_fresh_recipe_has_no_field_that_it_does_not_use():
    values = FRESH.to_json()
    assert Recipe.from_json(values) == FRESH
    assert values["prompt"] is None
    assert values["position"] == 0.0
    unused = {"passes", "weights", "adapter", "deterministic", "deduplicate", "distance"}
    assert not unused & set(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "must be a JSON object"),
        ({"dim": "3"}, "dim"),
        ({"layers": 6}, "layers"),
        ({"layers": [True]}, "layers"),
        ({"backbone": "minilm"}, "backbone of a recipe must be a JSON object"),
        ({"states": ["a"]}, "states of a recipe must be a JSON object"),
    ],
)
def test_values_of_another_type_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Recipe.from_json(values)


def test_a_mismatch_is_explained_field_by_field():
    stored = Recipe.partial(
        backbone=BACKBONE, max_length=128, layers=(6,), special_tokens={"added": ["[CLS]"]}
    )
    other = stored.extended(
        backbone={**BACKBONE, "sha256": "b" * 64},
        max_length=64,
        special_tokens={"added": []},
        ratio=0.5,
    )
    lines = [
        f"backbone.sha256: {'a' * 64!r} -> {'b' * 64!r}",
        "max_length: 128 -> 64",
        "ratio: None -> 0.5",
        "special_tokens.added: ['[CLS]'] -> []",
    ]
    assert stored.explain(other) == lines
    assert stored.explain(other, only={"max_length", "layers"}) == lines[1:2]
    assert stored.explain(other, ignore={"backbone", "ratio"}) == [lines[1], lines[3]]
    assert stored.explain(stored) == []


def test_a_backbone_is_known_by_its_hash_and_not_by_its_name():
    stored = Recipe.partial(backbone=BACKBONE)
    copy = Recipe.partial(backbone={**BACKBONE, "name": "copy of minilm"})
    assert stored.explain(copy) == []
    nameless = {"name": "x", "sha256": None, "revision": None}
    lines = Recipe.partial(backbone=nameless).explain(
        Recipe.partial(backbone={**nameless, "name": "y"})
    )
    assert lines == ["backbone.name: 'x' -> 'y'"]


def test_states_are_the_same_whatever_decides_only_rows_and_files():
    rows = FRESH.extended(task="cola", sample_seed=1, storage_dtype="int8", max_length=64)
    assert FRESH.explain_states(rows, (0, 6)) == []
    prompted = FRESH.extended(prompt="a {text}", adapter={"type": "LORA"})
    lines = FRESH.explain_states(prompted, (6,))
    assert [line.partition(":")[0] for line in lines] == ["adapter", "prompt"]


def test_states_are_compared_for_the_layers_that_are_read():
    other = FRESH.extended(states={"0": "another tensor", "6": "last_hidden_state"})
    assert FRESH.explain_states(other, (6,)) == []
    assert FRESH.explain_states(other, (0,)) == [
        "states: ['hidden_states[0]'] -> ['another tensor']"
    ]
    assert FRESH.at_layers((6,)).states == {"6": "last_hidden_state"}


def test_what_a_store_was_begun_with_is_a_recipe_or_an_append():
    pending = PendingAppend({"train": "1" * 64}, "2" * 64)
    assert pending.to_json() == {"append": {"train": "1" * 64}, "content": "2" * 64}
    assert read_work(pending.to_json()) == pending
    assert read_work(FRESH.to_json()) == FRESH
    with pytest.raises(UsageError, match="content"):
        read_work({"append": {}})


def test_a_field_is_read_as_before_with_a_warning():
    with pytest.warns(DeprecationWarning, match="recipe.layers now"):
        assert FRESH["layers"] == [0, 6]


def test_the_comparison_of_version_0_1_still_answers():
    with pytest.deprecated_call(match="store.recipe.explain_mismatch now"):
        assert glot_jax.store.explain_mismatch is explain_mismatch
    assert explain_mismatch({"dim": 3}, {"dim": 4}) == ["dim: 3 -> 4"]

"""The manifest: content, what it refuses, and what it keeps beside."""

import json

import pytest

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore, Recipe, describe, read_manifest, verify
from glot_jax.store.layout import MANIFEST, lock_folder
from glot_jax.store.manifest import Manifest, write_manifest

PROBE = {"last_token_changes_the_first": True, "error": 0.25, "layers": [0, 6], "ü": None}


def edit(store, change):
    values = json.loads((store / MANIFEST).read_text())
    change(values)
    (store / MANIFEST).write_text(json.dumps(values))


def test_a_manifest_reads_back_as_it_was_written(store):
    manifest = read_manifest(store)
    before = (store / MANIFEST).read_bytes()
    write_manifest(store, manifest)
    assert (store / MANIFEST).read_bytes() == before
    assert manifest.splits["train"].tokens == sum(
        shard.tokens for shard in manifest.splits["train"].shards
    )
    assert not list(store.glob(".tmp-*"))


def test_content_depends_on_recipe_task_and_every_file_but_not_on_the_order_of_keys(store):
    manifest = read_manifest(store)
    turned = Recipe.from_json(dict(reversed(manifest.recipe.to_json().items())))
    assert Manifest.build(turned, manifest.task, manifest.splits).content == manifest.content
    longer = manifest.recipe.extended(max_length=7)
    changed = [
        Manifest.build(longer, manifest.task, manifest.splits),
        Manifest.build(manifest.recipe, {**manifest.task, "name": "other"}, manifest.splits),
        Manifest.build(manifest.recipe, manifest.task, dict(reversed(manifest.splits.items()))),
    ]
    manifest.splits["train"].shards[1].files["token_ids.npy"]["sha256"] = "0" * 64
    changed.append(Manifest.build(manifest.recipe, manifest.task, manifest.splits))
    assert len({manifest.content, *(other.content for other in changed)}) == 5


def test_another_schema_version_is_refused(store):
    edit(store, lambda values: values.update(schema_version=2))
    with pytest.raises(UsageError, match=r"schema version 1; got version 2 in .*manifest\.json"):
        HiddenStore(store)


def test_an_edited_manifest_is_refused(store):
    edit(store, lambda values: values["recipe"].update(dim=9))
    with pytest.raises(UsageError, match=r"content hash; got .*manifest\.json"):
        HiddenStore(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("content"),
        lambda values: values["splits"]["train"]["shards"][0].pop("tokens"),
        lambda values: values["splits"]["train"]["shards"][0]["files"].update(
            {"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}
        ),
        lambda values: values["splits"].update({"../train": values["splits"]["train"]}),
        lambda values: values["splits"]["train"]["arrays"].pop("row_offsets.npy"),
        lambda values: values["splits"]["train"]["arrays"]["row_offsets.npy"].update(sha256="zz"),
        lambda values: values["splits"]["train"].update(tokens=10**15),
        lambda values: values["splits"]["train"].update(texts=10**15),
        lambda values: values["splits"]["train"].update(max_abs=1.0),
        lambda values: values.update(splits=[]),
        lambda values: values.update(secret=1),
    ],
)
def test_a_malformed_manifest_is_refused(store, change):
    edit(store, change)
    with pytest.raises(UsageError, match=r"manifest"):
        HiddenStore(store)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", '{"rows": 1}'])
def test_a_manifest_that_is_no_json_object_is_refused(store, text):
    (store / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"manifest\.json"):
        HiddenStore(store)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a folder"):
        HiddenStore(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="which has none"):
        HiddenStore(tmp_path)


def test_an_unfinished_store_says_how_to_continue(store, tmp_path):
    (store / MANIFEST).unlink()
    with pytest.raises(UsageError, match="Run the extract command again to continue"):
        HiddenStore(store)
    young = tmp_path / "young"
    young.mkdir()
    lock_folder(young).mkdir()
    with pytest.raises(UsageError, match="Run the extract command again to continue"):
        HiddenStore(young)


def test_a_linked_manifest_is_read_and_replaced_by_a_file_of_its_own(store, tmp_path):
    cached, manifest = tmp_path / "cached.json", read_manifest(store)
    (store / MANIFEST).rename(cached)
    (store / MANIFEST).symlink_to(cached)
    before = cached.read_bytes()
    assert read_manifest(store) == manifest
    write_manifest(
        store, Manifest.build(manifest.recipe, manifest.task, manifest.splits, probe=PROBE)
    )
    assert not (store / MANIFEST).is_symlink()
    assert read_manifest(store).probe == PROBE
    assert cached.read_bytes() == before


def test_a_probe_is_kept_beside_recipe_and_content_and_changes_neither(store):
    plain, before = read_manifest(store), (store / MANIFEST).read_bytes()
    assert plain.probe is None
    probed = Manifest.build(plain.recipe, plain.task, plain.splits, probe=PROBE)
    write_manifest(store, probed)
    assert read_manifest(store).probe == describe(store)["probe"] == PROBE
    assert probed.content == plain.content
    assert verify(store) == []
    write_manifest(store, Manifest.build(plain.recipe, plain.task, plain.splits))
    assert (store / MANIFEST).read_bytes() == before
    assert "probe" not in describe(store)


@pytest.mark.parametrize("damage", [None, [], "yes", 1])
def test_a_probe_that_is_no_object_is_a_damaged_manifest(store, damage):
    edit(store, lambda values: values.update(probe=damage))
    with pytest.raises(
        UsageError,
        match=r"complete and well-formed; got .*manifest\.json .*probe.*not a JSON object",
    ):
        HiddenStore(store)
    assert verify(store) == [str(store / MANIFEST)]


def test_a_probe_of_what_is_no_json_is_refused_before_anything_is_written(store):
    manifest = read_manifest(store)
    with pytest.raises(ValueError, match="JSON"):
        Manifest.build(
            manifest.recipe, manifest.task, manifest.splits, probe={"error": float("nan")}
        )


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"schema_version": ' + "1" * 5000 + "}", "\udcff"]
)
def test_json_that_python_cannot_take_is_a_damaged_manifest(store, content):
    (store / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert verify(store) == [str(store / "manifest.json")]
    with pytest.raises(UsageError, match="manifest.json"):
        HiddenStore(store)

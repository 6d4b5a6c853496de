"""Backbones from the Hub, as a user types them: revisions, caches, and no file that is not read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from support.extraction_case import tree
from support.hub_cache import lay_out_cache
from support.hub_datasets import GLUE, IMDB, glue_files, imdb_files
from support.hub_server import TOKEN, HubServer
from support.hub_walks import (
    assert_done,
    assert_no_secret,
    assert_refused,
    commit_of,
    extraction,
    notices_of,
)
from support.walks import EXTRACTION, Walker, run_fresh

from glot_jax.store.manifest import read_manifest

pytestmark = pytest.mark.xdist_group("hub-walks")


def test_names_and_revisions(
    shared: HubServer, walker: Walker, tiny: Path, retrained: Path, data: Path, tmp_path: Path
) -> None:
    """A name alone is its main branch; branch, tag and commit are what they stand for now."""
    first = shared.add_model("acme/revised", tiny)
    shared.tag("acme/revised", "v1", first)
    second = shared.add_model("acme/revised", retrained)
    shared.move_branch("acme/revised", first, "next/try")
    trees = {}
    for at, commit in ((None, second), ("next/try", first), ("v1", first), (second, second)):
        out = tmp_path / f"at-{at}".replace("/", "-")
        revision = [] if at is None else ["--revision", at]
        done = walker.glot(*extraction("acme/revised", data, out, *revision))
        assert_done(done)
        assert_no_secret(done, out)
        backbone = read_manifest(out).recipe.backbone
        assert backbone == {"name": "acme/revised", "sha256": None, "revision": commit}
        trees[at] = tree(out)
    assert trees[None] == trees[second]
    assert trees["next/try"] == trees["v1"] != trees[second]
    assert shared.leaks() == []


@pytest.mark.slow
def test_only_the_files_that_are_read(
    shared: HubServer, walker: Walker, tiny: Path, data: Path, tmp_path: Path
) -> None:
    """Other formats and folders of a repository stay there; a second run fetches nothing.

    The repository has no organisation, as the Hub's oldest have none.
    """
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    others = {
        "pytorch_model.bin": b"never read",
        "onnx/model.onnx": b"never read",
        "README.md": b"#",
        "tf_model.h5": b"never read",
        "flax_model.msgpack": b"never read",
    }
    shared.add("model", "lonely", {**files, **others})
    assert_done(walker.glot(*extraction("lonely", data, tmp_path / "first")))
    asked = {
        request.path for request in shared.requests(path="lonely") if "resolve" in request.path
    }
    assert [path for path in asked for name in others if name in path] == []
    shared.forget()
    assert_done(walker.glot(*extraction("lonely", data, tmp_path / "second")))
    assert shared.requests("cdn", path="lonely") == []
    assert tree(tmp_path / "second") == tree(tmp_path / "first")
    assert read_manifest(tmp_path / "first").recipe.backbone_name == "lonely"


def test_a_private_model(
    shared: HubServer, walker: Walker, tiny: Path, data: Path, tmp_path: Path
) -> None:
    """The token opens it, and goes to the Hub alone: not to the host that has the weights."""
    shared.add_model("acme/private", tiny, private=True)
    refused = walker.glot(*extraction("acme/private", data, tmp_path / "no"), env={"HF_TOKEN": ""})
    assert_refused(refused, "acme/private", "private", out=tmp_path / "no")
    done = walker.glot(*extraction("acme/private", data, tmp_path / "store"))
    assert_done(done)
    assert_no_secret(done, tmp_path / "store")
    weights = shared.requests("cdn", path="acme/private")
    assert weights
    assert {request.host for request in weights} == {shared.cdn_url.removeprefix("http://")}
    assert any(request.holds(TOKEN) for request in shared.requests("hub", path="acme/private"))
    assert shared.leaks() == []


@pytest.mark.slow
@pytest.mark.parametrize("links", [True, False])
def test_offline_from_a_cache(
    hub: HubServer, tiny: Path, data: Path, tmp_path: Path, links: bool
) -> None:
    """Without a network the cache is enough, also one that somebody else laid out."""
    home, out = tmp_path / "hf", tmp_path / "store"
    lay_out_cache(home, "acme/tiny", tiny, "a" * 40, refs=("main", "v1"), links=links)
    hub.stop()
    with Walker(hub.env(home, HF_HUB_OFFLINE="1"), tmp_path / "walks", EXTRACTION) as walker:
        for revision in ([], ["--revision", "v1"], ["--revision", "a" * 40]):
            done = walker.glot(*extraction("acme/tiny", data, out, *revision))
            assert_done(done)
            assert commit_of(out) == "a" * 40
        absent = walker.glot(*extraction("acme/absent", data, tmp_path / "no"))
        assert_refused(absent, "acme/absent", out=tmp_path / "no")
        old = walker.glot(*extraction("acme/tiny", data, tmp_path / "no", "--revision", "b" * 40))
        assert_refused(old, "acme/tiny", "b" * 40, out=tmp_path / "no")


@pytest.mark.slow
def test_the_hub_went_away(hub: HubServer, tiny: Path, data: Path, tmp_path: Path) -> None:
    """What was fetched online serves when the Hub is gone, with a notice."""
    first = hub.add_model("acme/tiny", tiny)
    env = hub.env(tmp_path / "hf")
    fresh = ["extract.py", *extraction("acme/tiny", data, tmp_path / "store")[1:]]
    done = run_fresh(*fresh, env=env)
    assert_done(done)
    assert_no_secret(done, tmp_path / "store")
    hub.stop()
    for out, more in ((tmp_path / "gone", {}), (tmp_path / "off", {"HF_HUB_OFFLINE": "1"})):
        with Walker({**env, **more}, tmp_path / f"walks-{out.name}") as walker:
            again = walker.glot(*extraction("acme/tiny", data, out))
            assert_done(again)
            assert notices_of(again.stderr, first) == 1, again.stderr
            assert tree(out) == tree(tmp_path / "store")


@pytest.mark.slow
def test_tasks_from_the_hub(shared: HubServer, walker: Walker, tiny: Path, tmp_path: Path) -> None:
    """GLUE by its configuration, IMDB by its only one, both without --data."""
    shared.add_model("acme/tasks", tiny)
    shared.add_dataset(GLUE, glue_files())
    shared.add_dataset(IMDB, imdb_files())
    rows = {"cola": {"train": 24, "validation": 8, "test": None}, "imdb": {"train": 12, "test": 8}}
    for task, splits in rows.items():
        out = tmp_path / task
        asked = ["--backbone", "acme/tasks", "--task", task, "--out", str(out), "--device", "cpu"]
        done = walker.glot("extract", *asked)
        assert_done(done)
        assert_no_secret(done, out)
        manifest = read_manifest(out)
        labelled = {name: count for name, count in splits.items() if count is not None}
        assert {name: split.rows for name, split in manifest.splits.items()} == labelled
        # The test set of CoLA has no labels, and is left out with a word.
        for name in splits.keys() - labelled.keys():
            assert f"{name}: skipped" in done.stderr
    assert shared.leaks() == []


@pytest.mark.slow
def test_a_cache_that_somebody_else_filled_in_part(
    hub: HubServer, tiny: Path, data: Path, tmp_path: Path
) -> None:
    """What is missing is fetched.

    A tokenizer without its vocabulary would make every text [UNK].
    """
    commit = hub.add_model("acme/tiny", tiny)
    whole = run_fresh(
        "extract.py",
        *extraction("acme/tiny", data, tmp_path / "whole")[1:],
        env=hub.env(tmp_path / "hf-1"),
    )
    assert_done(whole)
    env = hub.env(tmp_path / "hf-2")
    names = ("config.json", "tokenizer_config.json", "model.safetensors")
    code = (
        f"import huggingface_hub as h; [h.hf_hub_download('acme/tiny', name) for name in {names}]"
    )
    assert run_fresh("-c", code, env=env).code == 0
    done = run_fresh("extract.py", *extraction("acme/tiny", data, tmp_path / "part")[1:], env=env)
    assert_done(done)
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")
    # By commit first, then by name offline: the cache was told which commit main is as soon as the
    # Hub was asked.
    env = hub.env(tmp_path / "hf-3")
    by_commit = extraction("acme/tiny", data, tmp_path / "commit", "--revision", commit)
    assert_done(run_fresh("extract.py", *by_commit[1:], env=env))
    assert_done(
        run_fresh("extract.py", *extraction("acme/tiny", data, tmp_path / "name")[1:], env=env)
    )
    hub.stop()
    offline = {**env, "HF_HUB_OFFLINE": "1"}
    assert_done(
        run_fresh("extract.py", *extraction("acme/tiny", data, tmp_path / "off")[1:], env=offline)
    )
    assert tree(tmp_path / "off") == tree(tmp_path / "whole")


@pytest.mark.slow
def test_allow_bin_takes_safetensors_where_there_are_some(
    hub: HubServer, tiny: Path, data: Path, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    index = b'{"metadata": {}, "weight_map": {"x": "pytorch_model-00001-of-00001.bin"}}'
    others = {
        "pytorch_model.bin.index.json": index,
        "pytorch_model-00001-of-00001.bin": b"never read",
    }
    hub.add("model", "acme/both", {**files, **others})
    done = run_fresh(
        "extract.py",
        *extraction("acme/both", data, tmp_path / "store", "--allow-bin")[1:],
        env=hub.env(tmp_path / "hf"),
    )
    assert_done(done)
    assert "weights" not in read_manifest(tmp_path / "store").recipe.to_json()
    assert not any(request.path.endswith(".bin") for request in hub.requests())


def test_a_gguf_file_of_a_repository(
    shared: HubServer, walker: Walker, data: Path, tmp_path: Path
) -> None:
    """Of several quantisations the one that is named is fetched, and nothing else."""
    pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    from support.tiny_gguf import write_gguf

    files = {}
    for name in ("tiny-Q8_0.gguf", "tiny-Q4_1.gguf"):
        files[name] = write_gguf(tmp_path / name, seed=len(files)).read_bytes()
    commit = shared.add("model", "acme/quants", {**files, "README.md": b"#"})
    own = {"GLOT_JAX_CACHE": str(tmp_path / "cache")}
    flags = ("--gguf-file", "tiny-Q8_0.gguf")
    first = tmp_path / "first"
    assert_done(walker.glot(*extraction("acme/quants", data, first, *flags), env=own))
    recipe = read_manifest(first).recipe
    assert recipe.backbone_name == "acme/quants/tiny-Q8_0.gguf"
    assert recipe.backbone_sha256 == hashlib.sha256(files["tiny-Q8_0.gguf"]).hexdigest()
    assert recipe.revision == commit
    asked = [request.path for request in shared.requests(path="quants")]
    assert [path for path in asked if "Q4_1" in path or "README" in path] == []
    # The whole name at once, and the branch has moved: the store keeps its commit.
    shared.add("model", "acme/quants", {"tiny-Q8_0.gguf": files["tiny-Q4_1.gguf"]})
    again = walker.glot(*extraction("acme/quants/tiny-Q8_0.gguf", data, first), env=own)
    assert_done(again)
    assert notices_of(again.stderr, commit) >= 1
    unnamed = walker.glot(*extraction("acme/quants", data, tmp_path / "no"), env=own)
    assert_refused(unnamed, "one must be named", "--gguf-file tiny-Q8_0.gguf", out=tmp_path / "no")
    missing = walker.glot(
        *extraction("acme/quants", data, tmp_path / "no", "--gguf-file", "no.gguf"), env=own
    )
    assert_refused(missing, "acme/quants/no.gguf", "check the file's name", out=tmp_path / "no")

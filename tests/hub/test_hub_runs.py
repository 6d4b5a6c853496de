"""A run whose backbone is a name on the Hub: trained, scored, given texts, exported, uploaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.hub_faults import failing
from support.hub_server import TOKEN, HubServer
from support.hub_walks import assert_done, assert_no_secret, assert_refused, extraction, first_lines
from support.walks import EXTRACTION, Walker

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hub-runs")]
SMALL = [
    "--epochs",
    "1",
    "--buckets",
    "1",
    "--batch-size",
    "8",
    "--hidden-dim",
    "16",
    "--num-layers",
    "1",
]
HAS = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def test_a_run_with_a_backbone_from_the_hub(
    hub: HubServer, tiny: Path, retrained: Path, data: Path, tmp_path: Path
) -> None:
    store, run, fresh = tmp_path / "store", tmp_path / "run", tmp_path / "fresh"
    first = hub.add_model("acme/tiny", tiny)
    rows = first_lines(data / "validation.jsonl", 6, tmp_path / "new.jsonl")
    with Walker(hub.env(tmp_path / "hf"), tmp_path / "walks", EXTRACTION) as walker:
        assert_done(walker.glot(*extraction("acme/tiny", data, store)))
        # The branch has moved on, and the run stays with the commit of its states.
        hub.add_model("acme/tiny", retrained)
        trained = walker.glot("train", "--store", str(store), "--out", str(run), *SMALL)
        assert_done(trained)
        scored = walker.glot("evaluate", str(run), "--data", str(rows), "--json")
        assert_done(scored)
        assert json.loads(scored.stdout)
        vectors = tmp_path / "vectors.npy"
        named = ["encode", str(rows), "--run", str(run), "--out"]
        encoded = walker.glot(*named, str(vectors))
        assert_done(encoded)
        assert np.load(vectors).shape[0] == 6
        assert_no_secret(trained, scored, encoded, run, store, vectors)
        assert first in (run / "config.json").read_text()
        asked = {request.path for request in hub.requests("cdn")}
        assert len({path.split("/")[3] for path in asked}) == 1, "weights of one commit alone"
    # Another machine has the run and nothing else: the commit is fetched again.
    with Walker(hub.env(fresh), tmp_path / "other", EXTRACTION) as walker:
        assert_done(walker.glot(*named, str(tmp_path / "again.npy")))
        assert np.array_equal(np.load(tmp_path / "again.npy"), np.load(vectors))
        hub.spoil("acme/tiny", failing(503))
        assert_done(walker.glot(*named, str(tmp_path / "cached.npy")))
    hub.stop()
    with Walker(hub.env(fresh, HF_HUB_OFFLINE="1"), tmp_path / "offline", EXTRACTION) as walker:
        assert_done(walker.glot(*named, str(tmp_path / "offline.npy")))
        assert np.array_equal(np.load(tmp_path / "offline.npy"), np.load(vectors))
    assert hub.leaks() == []


def test_exports_and_uploads(hub: HubServer, tiny: Path, data: Path, tmp_path: Path) -> None:
    store, run, folder = tmp_path / "store", tmp_path / "run", tmp_path / "export"
    first = hub.add_model("acme/tiny", tiny)
    with Walker(hub.env(tmp_path / "hf"), tmp_path / "walks", EXTRACTION) as walker:
        if walker.code(HAS, "sentence_transformers").code:
            pytest.skip("sentence-transformers is not installed")
        assert_done(walker.glot(*extraction("acme/tiny", data, store)))
        assert_done(walker.glot("train", "--store", str(store), "--out", str(run), *SMALL))
        made = walker.glot("export", str(run), "--to", "sentence-transformers", str(folder))
        assert_done(made)
        assert_no_secret(made, folder)
        card = (folder / "README.md").read_text()
        assert "base_model: acme/tiny" in card
        assert first in card
        # A folder that is exported already, and a run that is exported on the way.
        for source, name in ((folder, "acme/glot-tiny"), (run, "tester/glot-tiny")):
            sent = walker.glot("export", str(source), "--to", "hub", name)
            assert_done(sent)
            assert_no_secret(sent)
            told, repo = json.loads(sent.stdout), hub.repo(name)
            assert (told["repository"], told["private"], repo.private) == (name, True, True)
            assert told["commit"] == repo.branches["main"]
            files = {path: file.content for path, file in repo.files("main").items()}
            assert not any(TOKEN.encode() in content for content in files.values())
            for path in folder.rglob("*"):
                if path.is_file() and path.name != "README.md":
                    assert files[path.relative_to(folder).as_posix()] == path.read_bytes(), path
        # What is public stays alone, and what is refused is one line.
        hub.add_model("acme/public", tiny)
        before = dict(hub.repo("acme/public").branches)
        refused = walker.glot("export", str(folder), "--to", "hub", "acme/public")
        assert_refused(refused, "acme/public", "public")
        assert hub.repo("acme/public").branches == before
        for env in ({"HF_TOKEN": ""}, {"HF_TOKEN": "hf_of_somebody_else"}):
            nobody = walker.glot("export", str(folder), "--to", "hub", "acme/other", env=env)
            assert_refused(nobody, "acme/other")
            assert_no_secret(nobody, secret="hf_of_somebody_else")
        hub.spoil("acme/glot-tiny", failing(500), file="api/commit")
        down = walker.glot("export", str(folder), "--to", "hub", "acme/glot-tiny")
        assert_refused(down, "acme/glot-tiny")
    puts = hub.requests("cdn", "PUT")
    assert puts
    assert hub.leaks() == []

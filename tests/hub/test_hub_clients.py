"""The stand-in for the Hub before the Hub's own clients: what they load is what was put there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.hub_cache import lay_out_cache
from support.hub_datasets import GLUE, IMDB, glue_files, imdb_files
from support.hub_faults import cut, rate_limited
from support.hub_server import TOKEN, HubServer
from support.walks import Outcome, Walker, run_fresh

pytestmark = pytest.mark.xdist_group("hub-clients")

DOWNLOADS = """
import json
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
api, told = HfApi(), {}

def twice(download, *what):
    # Older clients go on with a broken download when they are called again, newer ones at once.
    try:
        return download(*what)
    except Exception:
        return download(*what)

told["sha"] = api.model_info("acme/tiny").sha
told["old"] = api.model_info("acme/tiny", revision="v1").sha
told["files"] = sorted(entry.path for entry in api.list_repo_tree("acme/tiny", recursive=True))
told["paths"] = [file.path for file in api.get_paths_info("acme/tiny", ["config.json", "nothing"])]
told["refs"] = [entry.name for entry in api.list_repo_refs("acme/tiny").branches]
told["config"] = open(hf_hub_download("acme/tiny", "config.json", revision="v1")).read()
told["folder"] = twice(snapshot_download, "acme/tiny")
told["bare"] = snapshot_download("tiny")
told["renamed"] = hf_hub_download("older", "config.json")
told["big"] = twice(hf_hub_download, "acme/big", "big.bin")
told["who"] = api.whoami()["name"]
print(json.dumps(told))
"""

LOADS = """
import json, torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from datasets import load_dataset
told = {"type": AutoConfig.from_pretrained("acme/tiny").model_type}
ids = AutoTokenizer.from_pretrained("acme/tiny")(["the cat sat"], return_tensors="pt")
for revision in ("main", "v1"):
    model = AutoModel.from_pretrained("acme/tiny", revision=revision).eval()
    told[revision] = model(**ids).last_hidden_state.sum().item()
cola = load_dataset("nyu-mll/glue", "cola", split="train")
told["cola"] = [cola.column_names, len(cola), cola[1]["sentence"], cola.features["label"].names]
imdb = load_dataset("stanfordnlp/imdb", split="test")
told["imdb"] = [imdb.column_names, len(imdb), imdb[1]["text"]]
print(json.dumps(told))
"""

UPLOADS = """
import json, sys
from huggingface_hub import HfApi
api = HfApi()
name = api.create_repo("acme/new", private=True, exist_ok=True).repo_id
assert api.create_repo("acme/new", private=True, exist_ok=True).repo_id == name
commit = api.upload_folder(repo_id=name, folder_path=sys.argv[1], commit_message="first")
print(json.dumps({"oid": commit.oid, "private": api.repo_info(name).private}))
"""

OFFLINE = """
from transformers import AutoModel
print(AutoModel.from_pretrained("acme/tiny").config.model_type)
"""


def _files(folder: Path, content: bytes) -> Path:
    """A folder like a model's: these clients do not look into the files."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(content * 1000)
    return folder


def told(done: Outcome) -> dict[str, Any]:
    """What a walk printed last."""
    assert done.code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_huggingface_hub(hub: HubServer, tmp_path: Path) -> None:
    """Downloads by every kind of revision and name, one resumed after it broke off, and uploads."""
    tiny, retrained = (_files(tmp_path / name, name.encode()) for name in ("tiny", "retrained"))
    old = hub.add_model("acme/tiny", tiny)
    hub.tag("acme/tiny", "v1", old)
    new = hub.add_model("acme/tiny", retrained)
    hub.add_model("tiny", tiny)
    hub.add_model("older", tiny)
    hub.rename("older", "acme/newer")
    # The client writes parts of 10 MiB; a shorter file is begun anew when the connection breaks.
    big = bytes(range(256)) * (12 << 12)
    hub.add("model", "acme/big", {"big.bin": big}, "main")
    hub.spoil("acme/big", cut(11 << 20), file="big.bin", host="cdn", skip=1, times=1)
    hub.spoil("acme/tiny", cut(1000), file="model.safetensors", host="cdn", times=1)
    hub.spoil("acme/big", rate_limited(), file="big.bin", host="cdn", times=1)
    with Walker(hub.env(tmp_path / "hf"), tmp_path / "walks", ["huggingface_hub"]) as walker:
        outcome = told(walker.code(DOWNLOADS))
        assert (outcome["sha"], outcome["old"]) == (new, old)
        names = sorted(path.name for path in tiny.iterdir())
        assert (outcome["files"], outcome["paths"], outcome["refs"]) == (
            names,
            ["config.json"],
            ["main"],
        )
        assert outcome["config"] == (tiny / "config.json").read_text()
        assert outcome["who"] == "tester"
        for folder, source in (("folder", retrained), ("bare", tiny)):
            read = {path.name: path.read_bytes() for path in Path(outcome[folder]).iterdir()}
            assert read == {path.name: path.read_bytes() for path in source.iterdir()}
        assert Path(outcome["renamed"]).read_bytes() == (tiny / "config.json").read_bytes()
        assert Path(outcome["big"]).read_bytes() == big
        # The connection broke after 11 MiB, and what was missing was asked for alone.
        asked = [
            request for request in hub.requests("cdn", "GET", "acme/big") if request.status != 429
        ]
        assert len(asked) == 2
        assert "range" not in asked[0].headers
        assert asked[1].headers["range"] in (f"bytes={10 << 20}-", f"bytes={11 << 20}-")
        uploaded = told(walker.code(UPLOADS, str(tiny)))
        stored = hub.repo("acme/new")
        assert uploaded == {"oid": stored.branches["main"], "private": True}
        kept = {path: file.content for path, file in stored.files("main").items()}
        assert {path.name: path.read_bytes() for path in tiny.iterdir()}.items() <= kept.items()
        # The weights were there already, for acme/tiny.
        assert hub.requests("cdn", "PUT") == []
        (tmp_path / "more").mkdir()
        (tmp_path / "more/other.safetensors").write_bytes(b"others")
        told(walker.code(UPLOADS, str(tmp_path / "more")))
        assert len(hub.requests("cdn", "PUT")) == 1
        assert hub.repo("acme/new").files("main")["other.safetensors"].content == b"others"
        # A token that is none is refused, with the reason.
        refused = walker.code(DOWNLOADS, env={"HF_TOKEN": "hf_other"})
        assert refused.code == 1
        assert "Invalid credentials" in refused.stderr
    assert hub.leaks() == []
    assert any(request.holds(TOKEN) for request in hub.requests("hub"))


@pytest.mark.slow
def test_transformers_and_datasets(
    hub: HubServer, tiny: Path, retrained: Path, tmp_path: Path
) -> None:
    old = hub.add_model("acme/tiny", tiny)
    hub.tag("acme/tiny", "v1", old)
    hub.add_model("acme/tiny", retrained)
    hub.add_dataset(GLUE, glue_files())
    hub.add_dataset(IMDB, imdb_files())
    outcome = told(run_fresh("-c", LOADS, env=hub.env(tmp_path / "hf")))
    assert outcome["type"] == "bert"
    assert outcome["main"] != outcome["v1"]
    assert outcome["cola"] == [
        ["sentence", "label", "idx"],
        24,
        outcome["cola"][2],
        ["unacceptable", "acceptable"],
    ]
    assert outcome["imdb"][:2] == [["text", "label"], 8]
    assert hub.leaks() == []
    # datasets asks its own server for what it knows of a dataset, and has S3 count its downloads.
    others = {request.host for request in hub.requests("elsewhere")}
    assert others <= {f"datasets-server.{hub.url.removeprefix('http://')}", "s3.amazonaws.com:443"}


@pytest.mark.slow
@pytest.mark.parametrize("links", [True, False])
def test_cache_laid_out_by_hand(hub: HubServer, tiny: Path, tmp_path: Path, links: bool) -> None:
    lay_out_cache(tmp_path / "hf", "acme/tiny", tiny, "a" * 40, links=links)
    hub.stop()
    done = run_fresh("-c", OFFLINE, env=hub.env(tmp_path / "hf", HF_HUB_OFFLINE="1"))
    assert (done.code, done.stdout) == (0, "bert\n"), done.stderr

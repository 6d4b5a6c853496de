"""A Hub that refuses, stalls, breaks off or talks nonsense: one line, exit 2, nothing begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.extraction_case import tree
from support.hub_datasets import GLUE, glue_files
from support.hub_faults import (
    Fault,
    cut,
    failing,
    gated,
    html,
    not_json,
    rate_limited,
    slow,
    wrong_bytes,
)
from support.hub_server import HubServer, Where
from support.hub_walks import assert_done, assert_no_secret, assert_refused, extraction
from support.walks import EXTRACTION, Walker

pytestmark = pytest.mark.xdist_group("hub-walks")
FOR_LONG = 1000.0
"""Seconds: longer than any patience."""


@dataclass(frozen=True)
class Wrong:
    """Something that is wrong with a repository, and words that the user must then read."""

    fault: Fault
    told: tuple[str, ...]
    where: Where = field(default_factory=Where)
    """Which answers: see HubServer.spoil."""
    avoidable: bool = False
    """Whether one can do without this answer."""

    @property
    def kept(self) -> bool:
        """Whether clients take the wrong file for the right one: they compare its size alone."""
        return self.fault in (SAME_SIZE, NO_JSON)


SAME_SIZE, NO_JSON = wrong_bytes(), not_json()
WEIGHT_FILE = "model.safetensors"
WEIGHTS: Where = {"file": WEIGHT_FILE}
AT_ONCE = {
    "gated-401": Wrong(gated(401), ("gated", "terms")),
    "gated-403": Wrong(gated(403), ("gated", "terms")),
    "gated-files": Wrong(gated(403), ("gated",), {"file": "[!a]*"}),
    "login-page": Wrong(html(), ()),
    "config-is-no-json": Wrong(NO_JSON, ("config.json",), {"file": "config.json"}),
    "tokenizer-is-no-json": Wrong(NO_JSON, ("tokenizer.json",), {"file": "tokenizer.json"}),
    "weights-of-other-bytes": Wrong(SAME_SIZE, (), {**WEIGHTS, "host": "cdn"}),
    "api-is-down": Wrong(failing(500), ("500",), {"file": "api/info"}),
    "api-is-down-by-revision": Wrong(failing(503), ("503",), {"file": "api/revision"}),
    "weights-are-forbidden": Wrong(failing(403), ("403",), {**WEIGHTS, "host": "cdn"}),
}
AFTER_RETRIES = {
    "all-is-down": Wrong(failing(500), ("500",)),
    "weights-are-down": Wrong(failing(502), ("502",), {**WEIGHTS, "host": "cdn"}),
    "rate-limited-for-ever": Wrong(rate_limited(), ("429",)),
    "weights-always-cut": Wrong(cut(1000), (), {**WEIGHTS, "host": "cdn"}),
    "weights-cut-at-once": Wrong(cut(0), (), {**WEIGHTS, "host": "cdn"}),
    "config-always-cut": Wrong(cut(10), (), {"file": "config.json", "method": "GET"}),
}
STALLED = {
    "api-stalls": Wrong(slow(FOR_LONG), (), {"file": "api/*"}),
    "listing-stalls": Wrong(slow(FOR_LONG), (), {"file": "api/tree"}, avoidable=True),
    "weights-stall": Wrong(slow(FOR_LONG), (), {**WEIGHTS, "host": "cdn"}),
}


def _walk(
    hub: HubServer,
    walker: Walker,
    name: str,
    wrong: Wrong,
    tiny: Path,
    data: Path,
    out: Path,
    *more: str,
) -> None:
    """A refusal while it is wrong; afterwards the same command, as if nothing had happened."""
    hub.add_model(name, tiny)
    hub.spoil(name, wrong.fault, **wrong.where)
    done = walker.glot(*extraction(name, data, out, *more), limit=75)
    assert done.code != -14, f"still waiting after {done.seconds:.0f} s"
    if wrong.avoidable and done.code == 0:
        return
    assert_refused(done, *wrong.told, out=out)
    # By its name, or by where its file lies in the cache.
    assert name in done.errors[0].replace("--", "/"), done.errors[0]
    assert_no_secret(done)
    hub.faults.clear(name)
    again = walker.glot(*extraction(name, data, out, *more))
    if wrong.kept:
        # The cache holds the wrong file under the right name: it has to go first.
        assert_refused(again, out=out)
    else:
        assert_done(again)
    assert hub.leaks() == []


QUICK = ("gated-401", "config-is-no-json", "api-is-down")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in AT_ONCE],
)
def test_refused_at_once(
    shared: HubServer, walker: Walker, tiny: Path, data: Path, tmp_path: Path, case: str
) -> None:
    more = ["--revision", "main"] if case.endswith("by-revision") else []
    name = f"wrong/{case}"
    _walk(shared, walker, name, AT_ONCE[case], tiny, data, tmp_path / "store", *more)


@pytest.mark.slow
@pytest.mark.parametrize("case", AFTER_RETRIES)
def test_refused_after_the_clients_own_retries(
    shared: HubServer, walker: Walker, tiny: Path, data: Path, tmp_path: Path, case: str
) -> None:
    name = f"wrong/{case}"
    _walk(shared, walker, name, AFTER_RETRIES[case], tiny, data, tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize("case", STALLED)
def test_refused_after_a_while(
    hub: HubServer, tiny: Path, data: Path, tmp_path: Path, case: str
) -> None:
    """Whoever says how long to wait (HF_HUB_*_TIMEOUT) waits no longer."""
    env = hub.env(tmp_path / "hf", HF_HUB_ETAG_TIMEOUT="1", HF_HUB_DOWNLOAD_TIMEOUT="1")
    with Walker(env, tmp_path / "walks", EXTRACTION) as walker:
        _walk(hub, walker, f"wrong/{case}", STALLED[case], tiny, data, tmp_path / "store")


def test_what_is_not_there(
    shared: HubServer, walker: Walker, tiny: Path, data: Path, tmp_path: Path
) -> None:
    """Repositories, revisions and files that do not exist."""
    out = tmp_path / "store"
    shared.add_model("missing/revision", tiny)
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    for gone in ("config.json", "model.safetensors", "tokenizer.json"):
        left = {name: content for name, content in files.items() if name != gone}
        shared.add("model", f"missing/{gone}", left)
    absent = "0" * 40
    asked = {
        "missing/repository": ["missing/repository"],
        "nobody": ["nobody"],
        "missing/revision, branch": ["missing/revision", "--revision", "no-such-branch"],
        "missing/revision, commit": ["missing/revision", "--revision", absent],
        **{f"missing/{name}": [f"missing/{name}"] for name in ("config.json", "model.safetensors")},
        "missing/tokenizer.json": ["missing/tokenizer.json"],
        "two--dashes": ["acme/two--dashes"],
        "a space": ["acme/a space"],
    }
    for case, (name, *more) in asked.items():
        done = walker.glot(*extraction(name, data, out, *more))
        assert_refused(done, name.split("/")[-1], *more[1:], out=out)
        assert_no_secret(done)
        assert shared.leaks() == [], case
    # Without a token a missing repository may be a private one.
    done = walker.glot(*extraction("missing/repository", data, out), env={"HF_TOKEN": ""})
    assert_refused(done, "missing/repository", "private", out=out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [cut(1000), rate_limited(), failing(503)], ids=["cut", "429", "503"]
)
def test_passing_troubles(
    shared: HubServer,
    walker: Walker,
    tiny: Path,
    data: Path,
    tmp_path: Path,
    fault: Fault,
    request: pytest.FixtureRequest,
) -> None:
    """What is tried again works, and leaves no trace in the store."""
    name = f"passing/{request.node.callspec.id}"
    shared.add_model(name, tiny)
    # A server that is down is tried again where the client lists files.
    where = Where(file=WEIGHT_FILE, host="cdn")
    if name.endswith("503"):
        where = Where(file="api/tree")
    shared.spoil(name, fault, times=1, **where)
    done = walker.glot(*extraction(name, data, tmp_path / "store"))
    if done.code:
        # Clients before huggingface_hub 2 leave it to the user to try again.
        assert_refused(done, name, out=tmp_path / "store")
        done = walker.glot(*extraction(name, data, tmp_path / "store"))
    assert_done(done)
    assert_done(walker.glot(*extraction(name, data, tmp_path / "again")))
    assert tree(tmp_path / "store") == tree(tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gated", "missing", "card", "down", "bytes", "cut"])
def test_wrong_answers_about_a_dataset(
    hub: HubServer, tiny: Path, tmp_path: Path, case: str
) -> None:
    hub.add_model("acme/tiny", tiny)
    told: tuple[str, ...] = (GLUE, "--data")
    if case != "missing":
        hub.add_dataset(GLUE, glue_files())
    parquet: Where = {"file": "cola/*.parquet", "host": "cdn"}
    if case == "gated":
        hub.spoil(GLUE, gated(403))
        told = (*told, "gated")
    if case == "card":
        hub.spoil(GLUE, not_json(), file="README.md")
    if case == "down":
        hub.spoil(GLUE, failing(500), file="api/*")
    if case == "bytes":
        hub.spoil(GLUE, wrong_bytes(), **parquet)
    if case == "cut":
        hub.spoil(GLUE, cut(100), **parquet)
    out = tmp_path / "store"
    with Walker(hub.env(tmp_path / "hf"), tmp_path / "walks", EXTRACTION) as walker:
        asked = ["--backbone", "acme/tiny", "--task", "cola", "--out", str(out), "--device", "cpu"]
        done = walker.glot("extract", *asked)
        if case == "card":
            # datasets reads the parquet files all the same, without their configurations.
            assert done.code in (0, 2), done.stderr
            return
        assert_refused(done, *told, out=out)
        assert_no_secret(done)
    assert hub.leaks() == []

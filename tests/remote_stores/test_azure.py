"""Azure's protocol, against Azurite: `npm install azurite`, then AZURITE=.../azurite-blob.

The long version alone: Azurite is a program of Node.js, which Python does not bring.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.extraction_case import load_backbone, make_case, tree, write_texts
from support.object_stores import contents, extract, url

from glot_jax.errors import UsageError
from glot_jax.remote import objects
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores import copy, verify

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("moto")]

ACCOUNT = "devstoreaccount1"
# Of every Azurite: no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2021-08-06"


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new container."""
    program = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    server = subprocess.Popen([program, *options, "--silent", "--disableTelemetry"])
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    try:
        _make_container(endpoint, "container")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", endpoint)
        objects.client.cache_clear()
        yield "az://container"
    finally:
        server.kill()
        server.wait()
        objects.client.cache_clear()


def _make_container(endpoint: str, name: str) -> None:
    """Azurite begins without one; the request is signed with the account's key."""
    date = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = f"x-ms-date:{date}\nx-ms-version:{VERSION}"
    resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"{headers}\n{resource}"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(
        f"{endpoint}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": VERSION,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        },
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request).read()
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.usefixtures("own_cache")
def test_a_store_s_life(azure, tmp_path, monkeypatch):
    config = make_case(tmp_path, {"train": 24, "validation": 8})
    backbone = load_backbone(config.backbone)
    there = url(f"{azure}/stores/cola")
    remote = dataclasses.replace(config, out=there)
    more = write_texts(tmp_path / "more", {"train": 5, "test": 4}, seed=3)
    for here in (config, remote):
        extract(here, backbone)
        extract(dataclasses.replace(here, data=more, append=True), backbone)
    assert contents(there) == tree(tmp_path / "store")
    assert verify(there) == []
    assert Objects(there.with_name("cola.lock")).sizes() == {}
    copy(there, Path(tmp_path / "back"))
    copy(there, url(f"{azure}/other"))
    assert contents(url(f"{azure}/other")) == tree(tmp_path / "back") == contents(there)
    with pytest.raises(UsageError, match="of which the service said ContainerNotFound"):
        Objects(url("az://nocontainer/x")).read("y")
    wrong = base64.b64encode(b"CANARY" * 8).decode()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    objects.client.cache_clear()
    with pytest.raises(UsageError, match="must let this user at the store") as refused:
        Objects(there).read("manifest.json")
    assert wrong not in str(refused.value)

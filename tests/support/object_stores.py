"""Buckets for tests: in memory, and those of moto on this machine."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import StoreUrl, parse_location
from glot_jax.extraction import Backbone, dump
from glot_jax.remote import objects
from glot_jax.remote.objects import Objects

_CLIENT = objects.client


class Killed(BaseException):
    """The process died here."""


def url(text: str) -> StoreUrl:
    location = parse_location(text)
    assert isinstance(location, StoreUrl)
    return location


def contents(where: StoreUrl) -> dict[str, bytes]:
    """Every object under a URL, by its name."""
    there = Objects(where)
    return {name: b"".join(there.stream(name)) for name in there.sizes()}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Iterator[str]:
    """The URL of a bucket in memory, and a cache folder of its own.

    A store's scratch folder has the name of its URL, and that is the same in every process.
    """
    assert not own_cache.exists()
    obstore = pytest.importorskip("obstore.store")
    buckets: dict[tuple[str, str], Any] = {}

    def client(scheme: str, name: str) -> object:
        if name != "bucket":
            return _CLIENT(scheme, name)
        return buckets.setdefault((scheme, name), obstore.MemoryStore())

    monkeypatch.setattr(objects, "client", client)
    yield "s3://bucket"
    buckets.clear()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The endpoint of moto, which answers as S3 does."""
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of a new bucket of moto, reached by the real client."""
    name = f"bucket-{abs(hash(tmp_path)):x}"
    request = urllib.request.Request(f"{moto_server}/{name}", method="PUT")
    urllib.request.urlopen(request).read()
    environment = {
        "AWS_ENDPOINT_URL": moto_server,
        "AWS_ACCESS_KEY_ID": "CANARYID",
        "AWS_SECRET_ACCESS_KEY": "CANARYSECRET",
        "AWS_SESSION_TOKEN": "CANARYTOKEN",
        "AWS_REGION": "us-east-1",
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    _CLIENT.cache_clear()
    yield f"s3://{name}"
    _CLIENT.cache_clear()


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache folder, which is a test's own."""
    monkeypatch.setenv("GLOT_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Dying:
    """Objects of a process that dies before its change number `at`, from 0, and changes no more."""

    CALLS = ("put", "put_file", "create", "swap", "delete")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int):
        self.count = 0
        self.at = at
        for call in self.CALLS:
            monkeypatch.setattr(Objects, call, self._dying(getattr(Objects, call)))

    def _dying(self, original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            self.count += 1
            if self.count > self.at:
                raise Killed
            return original(*arguments)

        return call


def extract(config: ExtractConfig, backbone: Backbone) -> str:
    """Extract, and return what was printed."""
    printed = io.StringIO()
    dump(config, console=Console(file=printed, width=1000), backbone=backbone)
    return printed.getvalue()
